//! Questions for names that are forwarded on a machine's link, between network namespaces of the test's own.

use std::time::Duration;

use crate::kit::process;

/// Two machines' links into one host, whose resolver listens on the loopback alone. It answers each question with the
/// question, as an answer.
///
/// Prints what became of each case, a line each.
const SCRIPT: &str = r#"
set -eu
program=$1 place=$2
echo 'nameserver 127.0.0.1' >"$place/resolv.conf"
mount --bind "$place/resolv.conf" /etc/resolv.conf
ip link set lo up
perl -e '
  use IO::Socket::INET; use IO::Select;
  my $udp = IO::Socket::INET->new(Proto => "udp", LocalAddr => "127.0.0.1:53") or die;
  my $tcp = IO::Socket::INET->new(Proto => "tcp", LocalAddr => "127.0.0.1:53", Listen => 5, ReuseAddr => 1) or die;
  my $all = IO::Select->new($udp, $tcp);
  sub answer { substr($_[0], 0, 2) . chr(ord(substr($_[0], 2, 1)) | 128) . substr($_[0], 3) }
  while (1) { for ($all->can_read) {
    if ($_ == $udp) { $udp->recv(my $asked, 512); $udp->send(answer($asked)); next }
    my $stream = $tcp->accept; $stream->read(my $length, 2); $stream->read(my $asked, unpack("n", $length));
    $stream->print($length . answer($asked)); close $stream } }' &
resolver=$!
# ask NAMESPACE PROTOCOL ADDRESS KIND CLASS: prints the code of the answer
ask() {
  nsenter --net="/proc/$1/ns/net" perl -e '
    use IO::Socket::INET; my ($protocol, $to, $kind, $class) = @ARGV;
    my $asked = pack("n6", 7, 0x0100, 1, 0, 0, 0) . "\1x\7example\0" . pack("n2", $kind, $class);
    my $socket = IO::Socket::INET->new(Proto => $protocol, PeerAddr => "$to:53", Timeout => 2) or do { print "none\n"; exit };
    $SIG{ALRM} = sub { print "none\n"; exit }; alarm 2;
    my $got;
    if ($protocol eq "tcp") { $socket->print(pack("n", length $asked) . $asked); $socket->read(my $n, 2); $socket->read($got, unpack("n", $n)) }
    else { $socket->send($asked); defined $socket->recv($got, 512) or do { print "none\n"; exit } }
    my ($number, $flags) = unpack("n2", $got);
    print $number == 7 && $flags & 0x8000 ? $flags & 15 : "wrong", "\n"' "$2" "$3" "$4" "$5"
}
guests= forwarders=
for number in 1 2; do
  unshare --net sleep 60 & guest=$!
  while [ "$(readlink /proc/$guest/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
  ip link add "ve-sbtest$number" type veth peer name host0 netns "$guest"
  "$program" internal forward-names "ve-sbtest$number" "$(ip -o link show ve-sbtest$number | cut -d: -f1)" &
  forwarders="$forwarders $!"
  ip addr add "10.99.$number.1/30" dev "ve-sbtest$number"; ip link set "ve-sbtest$number" up
  nsenter --net="/proc/$guest/ns/net" sh -c "ip link set lo up; ip addr add 10.99.$number.2/30 dev host0; ip link set host0 up; ip route add default via 10.99.$number.1"
  guests="$guests $guest"
done
set -- $guests; one=$1 two=$2
set -- $forwarders; forwarder=$1
for _ in $(seq 200); do grep -q 'Uid:.*65534' "/proc/$forwarder/status" && break; sleep 0.02; done
echo 1 >/proc/sys/net/ipv4/ip_forward
echo "udp $(ask $one udp 10.99.1.1 1 1)"
echo "tcp $(ask $one tcp 10.99.1.1 28 1)"
echo "its own of the other $(ask $two udp 10.99.2.1 1 1)"
echo "transfer $(ask $one tcp 10.99.1.1 252 1)"
echo "chaos $(ask $one udp 10.99.1.1 16 3)"
echo "the other's $(ask $two udp 10.99.1.1 1 1) $(ask $two tcp 10.99.1.1 1 1)"
echo "ids $(awk '/^(Uid|Gid|CapEff|CapPrm|NoNewPrivs):/ { printf "%s ", $2 }' "/proc/$forwarder/status")"
kill "$resolver"; wait "$resolver" || true
echo "without resolver $(ask $one udp 10.99.1.1 1 1)"
ip link del ve-sbtest1
for _ in $(seq 100); do kill -0 "$forwarder" 2>/dev/null || break; sleep 0.02; done
wait "$forwarder" && echo "ended" || echo "status $?"
ip link del ve-sbtest2
kill $guests; wait
"#;

#[test]
fn a_link_s_forwarder_serves_it_alone_without_privileges_and_ends_with_it() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_sandbox");
    let argv =
        ["unshare", "--net", "--mount", "sh", "-c", SCRIPT, "sh", program, place.path().to_str().unwrap()];
    let output = process::run(&argv, "", Duration::from_secs(120));
    let expected = "udp 0\ntcp 0\nits own of the other 0\ntransfer 5\nchaos 5\nthe other's none none\n\
                    ids 65534 65534 0000000000000000 0000000000000000 1 \n\
                    without resolver 2\nended";
    assert_eq!(output.ok(), expected, "{}", output.err);
}
