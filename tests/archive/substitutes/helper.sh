# Runs a program in the place of dpkg-maintscript-helper(1), in all the ways in which scripts of packages call it, and
# prints all that it leaves and says.
#
#   helper.sh PROGRAM
program=$1
export LC_ALL=C.UTF-8 DPKG_MAINTSCRIPT_PACKAGE=base-files DPKG_MAINTSCRIPT_ARCH=amd64 DPKG_MAINTSCRIPT_NAME

new() {
  rm -rf /srv/case
  mkdir -p /srv/case/etc/real /srv/case/etc/directory /srv/case/new
  echo 1 >/srv/case/etc/one
  echo 2 >/srv/case/etc/two
  ln -s real /srv/case/etc/link
  echo 3 >/srv/case/etc/directory/three
}
helper() {
  echo "== $DPKG_MAINTSCRIPT_NAME $*"
  "$program" "$@" </dev/null 2>&1
  echo "status $?"
  (cd /srv/case && find . -printf '%p %y %m %l\n' | sort)
}

for version in '' 1 1.2 1.2~ 1.2-1~ 1:1.2-1~ 0:0 9:9 10:1.2 a 1.2- -1 1:a :1 1: 1:1: 1.2_3 1.2-1-2 1-~ '1 2' 1.2/3 '$x' 1.é; do
  for state in preinst:install preinst:upgrade postinst:configure postrm:remove; do
    DPKG_MAINTSCRIPT_NAME=${state%:*}
    new
    helper rm_conffile /srv/case/etc/one "$version" -- "${state#*:}"
    helper rm_conffile /srv/case/etc/one "$version" base-files -- "${state#*:}" 1.0
  done
done
for state in preinst:install preinst:upgrade postinst:configure postinst:abort-upgrade postrm:remove; do
  DPKG_MAINTSCRIPT_NAME=${state%:*}
  for before in '' 0.9 2; do
    new; helper mv_conffile /srv/case/etc/one /srv/case/etc/renamed 1.2~ -- "${state#*:}" $before
    new; helper symlink_to_dir /srv/case/etc/link real 1.2~ -- "${state#*:}" $before
    helper symlink_to_dir /srv/case/etc/link real 1.2~ -- configure $before
    new; helper dir_to_symlink /srv/case/etc/directory /srv/case/new 1.2~ -- "${state#*:}" $before
    helper dir_to_symlink /srv/case/etc/directory /srv/case/new 1.2~ -- configure $before
  done
done
for command in rm_conffile mv_conffile symlink_to_dir dir_to_symlink other ''; do
  helper supports $command
  helper "$command"
  helper "$command" relative/path -- install
  helper "$command" /srv/case/etc/one
done
helper
helper help
helper --version
PROGNAME=another helper nonsense
DPKG_DEBUG=1 helper rm_conffile /srv/case/etc/one 1.2 -- install
DPKG_MAINTSCRIPT_NAME=
helper rm_conffile /srv/case/etc/one 1.2 -- install
