# Runs a program in the place of update-ca-certificates(8) on many trees, and prints all that it leaves and says.
#
#   update.sh PROGRAM
#
# Only directories below /work are touched. The name of the case is in /case.
program=$1
# perl would warn of a locale that is not there
export LC_ALL=C.UTF-8 PERL_BADLANG=0
umask 022
cd /

begin() { echo "== $1"; echo "$1" >/case; }
show() {
  (cd /work && find . -printf '%p %y %m %l\n' | sort && find . -type f -exec sha256sum {} + | sort -k 2)
}
update() {
  "$program" --certsconf /work/conf --certsdir /work/share --localcertsdir /work/local --etccertsdir /work/etc \
    --hooksdir /work/hooks "$@" </dev/null 2>&1
  echo "status $?"
}
run() { update "$@"; show; }
# twelve certificates of the package, expired ones among them, one that is gone, a comment and an empty line
new() {
  begin "$1"
  rm -rf /work
  mkdir -p /work/etc
  cp -a /usr/share/ca-certificates /work/share
  (cd /work/share && find . -name '*.crt' | sed 's,^\./,,' | sort | head -n 12) >/work/conf
  printf '%s\n' mozilla/Gone.crt '# a comment with \ in it' '' >>/work/conf
}
line() { sed -n "$1p" /work/conf; }
name() { basename "$(line "$1")" .crt; }
certificate() { cp "/work/share/$(line "$1")" "$2"; }

new 'new, again, fresh'; run; run; run --fresh; run -f
begin 'deselected, removed from the list and from the package'
sed -i '3s/^/!/; 5s/^/!/; 7d' /work/conf; run; rm "/work/share/$(line 9)"; run; run --fresh
begin 'selected again'; sed -i '3s/^!//' /work/conf; run
begin 'an orphan'; ln -s nowhere /work/etc/orphan; run; sed -i '2s/^/!/' /work/conf; run

new 'local certificates'
mkdir -p '/work/local/a directory'
certificate 1 '/work/local/a b(1),c.crt'; certificate 2 '/work/local/a directory/two.crt'
certificate 3 /work/local/dup.crt; certificate 3 /work/local/dup2.crt; certificate 4 /work/local/not.pem
certificate 5 /work/local/.hidden.crt; certificate 6 /work/local/-x.crt; certificate 7 '/work/local/Főtanú.crt'
echo no certificate >/work/local/broken.crt; : >/work/local/empty.crt
ln -s /nowhere /work/local/dangling.crt; ln -s dup.crt /work/local/link.crt
cat /work/local/dup.crt '/work/local/a b(1),c.crt' >/work/local/two.crt
head -c -1 /work/local/dup.crt >/work/local/no-end-of-line.crt
run; run; run --fresh
begin 'local certificates removed'; rm '/work/local/a b(1),c.crt'; run; rm -r /work/local; run; run --fresh

new 'listed twice, selected and deselected, under one name'
sed -n 1,3p /work/conf >/work/three; sed -n 's/^/!/; 2p' /work/conf >>/work/three; cat /work/three >>/work/conf
mkdir /work/share/other; certificate 1 "/work/share/other/$(name 1).crt"; echo "other/$(name 1).crt" >>/work/conf
run; run; run --fresh

new hooks; mkdir /work/hooks; run
printf '#!/bin/sh\necho "$0 $*"; cat; env | grep -v ^_= | sort; pwd\n' >/work/hooks/first
printf '#!/bin/sh\nexit 3\n' >/work/hooks/fails
printf 'echo without an interpreter\n' >/work/hooks/plain
printf '#!/bin/sh\n' >/work/hooks/not-executable; printf '#!/bin/sh\n' >/work/hooks/not.a.name
chmod +x /work/hooks/first /work/hooks/fails /work/hooks/plain /work/hooks/not.a.name
run; sed -i '3s/^/!/' /work/conf; run; run --fresh
begin 'no directory of hooks'; "$program" --hooksdir '' 2>&1; find /etc/ssl/certs -printf '%p %l\n' | sort

new 'files of the administrator'
cp "/work/share/$(line 12)" /work/etc/own.pem; mkdir /work/etc/sub; ln -s ../own.pem /work/etc/sub/own.pem
ln -s ../nowhere /work/etc/sub/orphan; echo a file >"/work/etc/$(name 1).pem"; run; run --fresh
new 'the bundle is a link'; echo other >/work/etc/other; ln -s other /work/etc/ca-certificates.crt; run
new 'only comments'; update; echo '# nothing' >/work/conf; run
new 'openssl fails'; mkdir /work/bin; printf '#!/bin/sh\nexit 7\n' >/work/bin/openssl; chmod +x /work/bin/openssl
PATH=/work/bin:$PATH; run; PATH=${PATH#*:}

# the rest is left to the program itself
new 'unusual: options'; run --default; run --verbose; run --help; run --nonsense
new 'unusual: a list without an end of line'; printf 'mozilla/Last.crt' >>/work/conf; run
new 'unusual: blanks in the list'; sed -i '1s/^/  /; 2s/$/ /; 3s/^/! /; 4s/^/\t/' /work/conf; run
new 'unusual: a backslash in the list'; echo 'a\b.crt' >>/work/conf; run
new 'unusual: an empty list'; : >/work/conf; run
new 'unusual: no list'; update; rm /work/conf; run
new 'unusual: a link is a directory'; mkdir "/work/etc/$(name 1).pem"; run
new 'unusual: a link leads to a directory'; mkdir /work/etc/q; ln -s q "/work/etc/$(name 1).pem"; run; run --fresh
new 'unusual: a bundle of a killed run'; echo stale >/work/etc/ca-certificates.crt.new; run
new 'unusual: the bundle is a directory'; mkdir /work/etc/ca-certificates.crt; run
new 'unusual: no directory of links'; rmdir /work/etc; run
new 'unusual: the directory of links is a link'; mv /work/etc /work/etc2; ln -s etc2 /work/etc; run
new 'unusual: names that a shell splits'; update; ln -s nowhere '/work/etc/x y'; ln -s nowhere '/work/etc/x*'; run --fresh
new 'unusual: a loop of local directories'; mkdir -p /work/local/x; ln -s .. /work/local/x/up; run
new 'unusual: local directories behind a link'; mkdir /work/l2; ln -s l2 /work/local; certificate 1 /work/l2/x.crt; run
for odd in .crt 'a\b.crt' "$(printf 'a\nb.crt')" "$(printf '\377.crt')"; do
  new 'unusual: names of local certificates'; mkdir /work/local; certificate 1 "/work/local/$odd"; run
done
new 'unusual: another order of names'; LC_ALL=en_US.UTF-8; mkdir /work/local; run; LC_ALL=C.UTF-8
new 'unusual: no openssl'; mkdir /work/bin
for tool in basename cat chmod find ln mktemp mv perl readlink rm run-parts sed sh sha256sum sort test wc; do
  ln -s "/usr/bin/$tool" /work/bin/
done
PATH=/work/bin; run
