# Runs a program in the place of update-ca-certificates(8) on many trees, and prints all that it leaves and says.
#
#   update.sh PROGRAM
#
# Only directories below /srv/case are touched. The name of the case is in /case.
program=$1
# perl would warn of a locale that is not there
export LC_ALL=C.UTF-8 PERL_BADLANG=0
umask 022
cd /

begin() { echo "== $1"; echo "$1" >/case; }
show() {
  (cd /srv/case && find . -printf '%p %y %m %l\n' | sort && find . -type f -exec sha256sum {} + | sort -k 2)
}
update() {
  "$program" --certsconf /srv/case/conf --certsdir /srv/case/share --localcertsdir /srv/case/local --etccertsdir /srv/case/etc \
    --hooksdir /srv/case/hooks "$@" </dev/null 2>&1
  echo "status $?"
}
run() { update "$@"; show; }
# twelve certificates of the package, expired ones among them, one that is gone, a comment and an empty line
new() {
  begin "$1"
  rm -rf /srv/case
  mkdir -p /srv/case/etc
  cp -a /usr/share/ca-certificates /srv/case/share
  (cd /srv/case/share && find . -name '*.crt' | sed 's,^\./,,' | sort | head -n 12) >/srv/case/conf
  printf '%s\n' mozilla/Gone.crt '# a comment with \ in it' '' >>/srv/case/conf
}
line() { sed -n "$1p" /srv/case/conf; }
name() { basename "$(line "$1")" .crt; }
certificate() { cp "/srv/case/share/$(line "$1")" "$2"; }

new 'new, again, fresh'; run; run; run --fresh; run -f
begin 'deselected, removed from the list and from the package'
sed -i '3s/^/!/; 5s/^/!/; 7d' /srv/case/conf; run; rm "/srv/case/share/$(line 9)"; run; run --fresh
begin 'selected again'; sed -i '3s/^!//' /srv/case/conf; run
begin 'an orphan'; ln -s nowhere /srv/case/etc/orphan; run; sed -i '2s/^/!/' /srv/case/conf; run

new 'local certificates'
mkdir -p '/srv/case/local/a directory'
certificate 1 '/srv/case/local/a b(1),c.crt'; certificate 2 '/srv/case/local/a directory/two.crt'
certificate 3 /srv/case/local/dup.crt; certificate 3 /srv/case/local/dup2.crt; certificate 4 /srv/case/local/not.pem
certificate 5 /srv/case/local/.hidden.crt; certificate 6 /srv/case/local/-x.crt; certificate 7 '/srv/case/local/Főtanú.crt'
echo no certificate >/srv/case/local/broken.crt; : >/srv/case/local/empty.crt
ln -s /nowhere /srv/case/local/dangling.crt; ln -s dup.crt /srv/case/local/link.crt
cat /srv/case/local/dup.crt '/srv/case/local/a b(1),c.crt' >/srv/case/local/two.crt
head -c -1 /srv/case/local/dup.crt >/srv/case/local/no-end-of-line.crt
run; run; run --fresh
begin 'local certificates removed'; rm '/srv/case/local/a b(1),c.crt'; run; rm -r /srv/case/local; run; run --fresh

new 'listed twice, selected and deselected, under one name'
sed -n 1,3p /srv/case/conf >/srv/case/three; sed -n 's/^/!/; 2p' /srv/case/conf >>/srv/case/three; cat /srv/case/three >>/srv/case/conf
mkdir /srv/case/share/other; certificate 1 "/srv/case/share/other/$(name 1).crt"; echo "other/$(name 1).crt" >>/srv/case/conf
run; run; run --fresh

new hooks; mkdir /srv/case/hooks; run
printf '#!/bin/sh\necho "$0 $*"; cat; env | grep -v ^_= | sort; pwd\n' >/srv/case/hooks/first
printf '#!/bin/sh\nexit 3\n' >/srv/case/hooks/fails
printf 'echo without an interpreter\n' >/srv/case/hooks/plain
printf '#!/bin/sh\n' >/srv/case/hooks/not-executable; printf '#!/bin/sh\n' >/srv/case/hooks/not.a.name
chmod +x /srv/case/hooks/first /srv/case/hooks/fails /srv/case/hooks/plain /srv/case/hooks/not.a.name
run; sed -i '3s/^/!/' /srv/case/conf; run; run --fresh
begin 'no directory of hooks'; "$program" --hooksdir '' 2>&1; find /etc/ssl/certs -printf '%p %l\n' | sort

new 'files of the administrator'
cp "/srv/case/share/$(line 12)" /srv/case/etc/own.pem; mkdir /srv/case/etc/sub; ln -s ../own.pem /srv/case/etc/sub/own.pem
ln -s ../nowhere /srv/case/etc/sub/orphan; echo a file >"/srv/case/etc/$(name 1).pem"; run; run --fresh
new 'the bundle is a link'; echo other >/srv/case/etc/other; ln -s other /srv/case/etc/ca-certificates.crt; run
new 'only comments'; update; echo '# nothing' >/srv/case/conf; run
new 'openssl fails'; mkdir /srv/case/bin; printf '#!/bin/sh\nexit 7\n' >/srv/case/bin/openssl; chmod +x /srv/case/bin/openssl
PATH=/srv/case/bin:$PATH; run; PATH=${PATH#*:}

# the rest is left to the program itself
new 'unusual: options'; run --default; run --verbose; run --help; run --nonsense
new 'unusual: a list without an end of line'; printf 'mozilla/Last.crt' >>/srv/case/conf; run
new 'unusual: blanks in the list'; sed -i '1s/^/  /; 2s/$/ /; 3s/^/! /; 4s/^/\t/' /srv/case/conf; run
new 'unusual: a backslash in the list'; echo 'a\b.crt' >>/srv/case/conf; run
new 'unusual: an empty list'; : >/srv/case/conf; run
new 'unusual: no list'; update; rm /srv/case/conf; run
new 'unusual: a link is a directory'; mkdir "/srv/case/etc/$(name 1).pem"; run
new 'unusual: a link leads to a directory'; mkdir /srv/case/etc/q; ln -s q "/srv/case/etc/$(name 1).pem"; run; run --fresh
new 'unusual: a bundle of a killed run'; echo stale >/srv/case/etc/ca-certificates.crt.new; run
new 'unusual: the bundle is a directory'; mkdir /srv/case/etc/ca-certificates.crt; run
new 'unusual: no directory of links'; rmdir /srv/case/etc; run
new 'unusual: the directory of links is a link'; mv /srv/case/etc /srv/case/etc2; ln -s etc2 /srv/case/etc; run
new 'unusual: names that a shell splits'; update; ln -s nowhere '/srv/case/etc/x y'; ln -s nowhere '/srv/case/etc/x*'; run --fresh
new 'unusual: a loop of local directories'; mkdir -p /srv/case/local/x; ln -s .. /srv/case/local/x/up; run
new 'unusual: local directories behind a link'; mkdir /srv/case/l2; ln -s l2 /srv/case/local; certificate 1 /srv/case/l2/x.crt; run
for odd in .crt 'a\b.crt' "$(printf 'a\nb.crt')" "$(printf '\377.crt')"; do
  new 'unusual: names of local certificates'; mkdir /srv/case/local; certificate 1 "/srv/case/local/$odd"; run
done
new 'unusual: another order of names'; LC_ALL=en_US.UTF-8; mkdir /srv/case/local; run; LC_ALL=C.UTF-8
new 'unusual: no openssl'; mkdir /srv/case/bin
for tool in basename cat chmod find ln mktemp mv perl readlink rm run-parts sed sh sha256sum sort test wc; do
  ln -s "/usr/bin/$tool" /srv/case/bin/
done
PATH=/srv/case/bin; run
