#!/usr/bin/perl
# Stands in for a vendor's program where tests cannot reach the vendor: it does what the profile's units and
# health checks rely on, and no more. perl, since every suite's perl-base has its sockets.
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;

# Gives what follows an option, as a word of its own or behind `=`.
sub option {
  my ($name, $otherwise) = @_;
  for my $at (0 .. $#ARGV) {
    return $ARGV[$at + 1] if $ARGV[$at] eq $name;
    return $1 if $ARGV[$at] =~ /^\Q$name\E=(.*)$/s;
  }
  defined $otherwise or die "$0: $name is missing: @ARGV\n";
  return $otherwise;
}

sub listener {
  my ($at) = @_;
  return IO::Socket::INET->new(LocalAddr => $at, Listen => 5, ReuseAddr => 1) || die "$0: cannot listen on $at: $!\n";
}

# Answers GET requests with pages, by path.
sub serve {
  my ($at, %pages) = @_;
  my $server = listener($at);
  while (my $client = $server->accept) {
    my ($path) = (<$client> // '') =~ m{^GET (\S+)};
    while (defined(my $line = <$client>)) { last if $line =~ /^\r?\n$/ }
    my $body = defined $path ? $pages{$path} : undef;
    my $status = defined $body ? '200 OK' : '404 Not Found';
    $body //= '';
    print $client "HTTP/1.0 $status\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
    close $client;
  }
}

# Says one line on a socket and gives the answer.
sub ask {
  my ($path, $line) = @_;
  my $socket = IO::Socket::UNIX->new(Peer => $path) or die "$0: nobody listens on $path: $!\n";
  print $socket "$line\n";
  $socket->shutdown(1);
  local $/;
  return <$socket> // '';
}

# Answers lines on a socket.
sub answer {
  my ($path, $reply) = @_;
  unlink $path;
  my $server = IO::Socket::UNIX->new(Local => $path, Listen => 5) or die "$0: cannot listen on $path: $!\n";
  chmod 0666, $path;
  while (my $client = $server->accept) {
    my $line = <$client> // '';
    chomp $line;
    print $client $reply->($line);
    close $client;
  }
}

sub read_file { my ($path) = @_; open(my $file, '<', $path) or return ''; local $/; return <$file> // '' }

sub write_file { my ($path, $text) = @_; open(my $file, '>', $path) or die "$0: $path: $!\n"; print $file $text }

