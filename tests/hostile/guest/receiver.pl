#!/usr/bin/perl
# Writes down what sender.pl sent and arrived:   receiver.pl REPORT ADDRESS…
#
# ADDRESSes are the host's own, on each of which it is a member of the groups. A raw socket has a packet after the rules
# for what comes in.
use strict;
use warnings;
use IO::Select;
use Socket qw(:all);

my ($report, @own) = @ARGV;
my $wanted = IO::Select->new;
my $port = 8099;

socket(my $four, AF_INET, SOCK_DGRAM, 0) or die;
setsockopt($four, SOL_SOCKET, SO_REUSEADDR, 1);
bind($four, pack_sockaddr_in($port, INADDR_ANY)) or die "bind: $!";
for my $group ('224.0.0.251', '239.255.255.250') {
    setsockopt($four, IPPROTO_IP, IP_ADD_MEMBERSHIP, inet_aton($group) . inet_aton($_)) for @own;
}
$wanted->add($four);
for my $protocol (4, 47, 132, 136, 253) {
    socket(my $raw, AF_INET, SOCK_RAW, $protocol) or next;
    $wanted->add($raw);
}
if (socket(my $six, AF_INET6, SOCK_DGRAM, 0)) {
    setsockopt($six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    $wanted->add($six) if bind($six, pack_sockaddr_in6($port, IN6ADDR_ANY));
}
open(my $out, '>', $report) or die;
$out->autoflush(1);
print $out "ready\n";
while (1) {
    for my $socket ($wanted->can_read) {
        recv($socket, my $bytes, 4096, 0);
        print $out "$1\n" if $bytes =~ /denied-([a-z-]+)/;
    }
}
