# Runs a program in the place of ca-certificates' config script, with lists and answers of all kinds, and prints what
# debconf has afterwards.
#
#   config.sh PROGRAM
program=$1
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
cp -a /usr/share/ca-certificates /root/share
cp -a /var/cache/debconf /root/debconf
cp -a /etc/ca-certificates.conf /root/conf
shown() {
  echo "== $1"
  shift
  debconf --owner=ca-certificates "$program" "$@" </dev/null 2>&1
  echo "status $?"
  sed -n '/^Name: ca-certificates/,/^$/p' /var/cache/debconf/config.dat
}
again() {
  rm -rf /usr/share/ca-certificates /var/cache/debconf
  cp -a /root/share /usr/share/ca-certificates
  cp -a /root/debconf /var/cache/debconf
  cp -a /root/conf /etc/ca-certificates.conf
}
first() { sed -n '/^mozilla/p' /root/conf | sed -n "$1p"; }
certificate() { cp "/usr/share/ca-certificates/$(first 1)" "/usr/share/ca-certificates/$1"; }
answer() { printf 'ca-certificates ca-certificates/trust_new_crts select %s\n' "$1" | debconf-set-selections; }

again; rm /etc/ca-certificates.conf; shown 'first installation' configure ''
again; shown 'an upgrade' configure 20200101
for trust in yes no ask; do
  again; answer $trust; certificate new.crt
  sed -i '/^mozilla/{3,5s/^/!/; 8d}' /etc/ca-certificates.conf
  shown "some deselected, one not listed, one new, trust: $trust" configure 20200101
  shown 'reconfigured' reconfigure 20200101
  again; answer $trust
  for odd in 'a b.crt' 'mozilla/x[1].crt' '*.crt' '-x.crt' 'a\b.crt' '$x.crt' 'é.crt' "$(printf '\377.crt')" x.crtx.crt; do
    certificate "$odd"; printf '!%s\n' "$odd" >>/etc/ca-certificates.conf
  done
  # a line of the list that is the beginning, the end or the middle of a name
  printf '%s\n' '!mozilla' '!.crt' 'b.crt' '!a' '' '# x' 'c\d.crt' '!\0101' >>/etc/ca-certificates.conf
  shown "odd names, trust: $trust" configure 20200101
  : >/etc/ca-certificates.conf; shown "an empty list, trust: $trust" configure 20200101
done
again; rm -r /usr/share/ca-certificates; shown 'no certificates' configure 20200101
again; rm -r /root/share /root/debconf /root/conf
