#!/usr/bin/perl
# Sends what rules for TCP and UDP to one address may not see:   sender.pl LINK ADDRESS BROADCAST
#
# Each packet holds `denied-WHAT`, so that receiver.pl can tell which arrived.
use strict;
use warnings;
use Socket qw(:all);

my ($link, $host, $broadcast) = @ARGV;
my $port = 8099;

sub checksum {
    my $bytes = shift;
    $bytes .= "\0" if length($bytes) % 2;
    my $sum = 0;
    $sum += $_ for unpack 'n*', $bytes;
    $sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16;
    return ~$sum & 0xffff;
}

sub own_address {
    socket(my $socket, AF_INET, SOCK_DGRAM, 0);
    connect($socket, pack_sockaddr_in($port, inet_aton($host)));
    return (unpack_sockaddr_in(getsockname($socket)))[1];
}
my $own = own_address();

sub udp { my $data = shift; return pack('nnnn', 40000, $port, 8 + length $data, 0) . $data }

# An IPv4 packet: protocol, payload, and where they are given options, source, fragment field.
sub ip {
    my ($protocol, $payload, %with) = @_;
    my $options = $with{options} // '';
    my $words = 5 + length($options) / 4;
    my $head = sub {
        pack 'CCnnnCCna4a4', 0x40 | $words, 0, 4 * $words + length $payload, $with{id} // 4242,
            $with{fragment} // 0, 64, $protocol, shift, $with{from} // $own, $with{to} // inet_aton($host);
    };
    return $head->(checksum($head->(0) . $options)) . $options . $payload;
}

sub datagram {
    my ($address, $what) = @_;
    socket(my $socket, AF_INET, SOCK_DGRAM, 0) or return;
    setsockopt($socket, SOL_SOCKET, SO_BROADCAST, 1);
    setsockopt($socket, SOL_SOCKET, 25, $link);
    setsockopt($socket, IPPROTO_IP, IP_MULTICAST_TTL, 4);
    send($socket, "denied-$what", 0, pack_sockaddr_in($port, inet_aton($address)));
}

sub frame {
    my ($type, $payload) = @_;
    socket(my $socket, 17, SOCK_RAW, 0) or return;
    open(my $file, '<', "/sys/class/net/$link/ifindex") or return;
    my $index = <$file>;
    open($file, '<', "/sys/class/net/$link/address") or return;
    my $address = <$file>;
    my $from = pack 'H12', $address =~ s/[:\n]//gr;
    send($socket, "\xff" x 6 . $from . $type . $payload, 0, pack 'SnlSCCa8', 17, 0x0800, $index, 1, 0, 6, "\xff" x 6);
}

sub raw {
    socket(my $socket, AF_INET, SOCK_RAW, 255) or return;
    send($socket, shift, 0, pack_sockaddr_in(0, inet_aton($host)));
}

for (1 .. 5) {
    datagram($host, 'plain');
    datagram('255.255.255.255', 'limited-broadcast');
    datagram($broadcast, 'broadcast');
    datagram('224.0.0.1', 'all-hosts');
    datagram('224.0.0.251', 'mdns');
    datagram('239.255.255.250', 'ssdp');
    raw(ip($_->[0], "denied-$_->[1]")) for [4, 'ipip'], [47, 'gre'], [132, 'sctp'], [136, 'udplite'], [253, 'experimental'];
    raw(ip(17, udp('denied-source-route'), options => pack('CCCa4C', 131, 7, 4, inet_aton($host), 1)));
    raw(ip(17, udp('denied-from-loopback'), from => inet_aton('127.0.0.1')));
    raw(ip(17, udp('denied-from-the-host'), from => inet_aton($host)));
    my $long = udp('denied-fragments');
    raw(ip(17, substr($long, 0, 8), fragment => 0x2000, id => 77));
    raw(ip(17, substr($long, 8), fragment => 1, id => 77));
    # a tag of VLAN 0 is priority alone, and two of them
    frame(pack('nnn', 0x8100, 0, 0x0800), ip(17, udp('denied-priority-tag')));
    frame(pack('nnnnn', 0x88a8, 0, 0x8100, 0, 0x0800), ip(17, udp('denied-two-tags')));
    frame(pack('n', 0x0800), ip(17, udp('denied-broadcast-frame')));
    frame(pack('n', 0x0800), ip(17, udp('denied-to-loopback'), to => inet_aton('127.0.0.1')));
    if (socket(my $six, AF_INET6, SOCK_DGRAM, 0)) {
        open(my $file, '<', "/sys/class/net/$link/ifindex");
        send($six, 'denied-all-nodes', 0, pack_sockaddr_in6($port, inet_pton(AF_INET6, 'ff02::1'), <$file>));
    }
    # a router's advertisement, with the prefix 2001:db8:6666::/64, and a neighbour's lie
    if (socket(my $six, AF_INET6, SOCK_RAW, 58)) {
        open(my $file, '<', "/sys/class/net/$link/ifindex");
        setsockopt($six, IPPROTO_IPV6, 18, pack 'i', 255);
        my $prefix = pack 'CCCCNNNa16', 3, 4, 64, 0xc0, 9000, 9000, 0, inet_pton(AF_INET6, '2001:db8:6666::');
        my $advertisement = pack('CCnCCnNN', 134, 0, 0, 64, 0, 9000, 0, 0) . $prefix;
        send($six, $advertisement, 0, pack_sockaddr_in6(0, inet_pton(AF_INET6, 'ff02::1'), <$file>));
    }
    frame(pack('n', 0x0806), pack('nnCCna6a4a6a4', 1, 0x0800, 6, 4, 2, "\2\2\2\2\2\2", inet_aton($_), "\xff" x 6, $own))
        for $host, '203.0.113.66';
    select undef, undef, undef, 0.1;
}
