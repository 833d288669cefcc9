# Updates /etc/ssl/certs as update-ca-certificates(8) does, in one process instead of a dozen for each certificate.
#
# The lines above this one set $original, the path of the script that this program replaces, and %differs, in what
# that version differs from the others. Whatever is unusual is left to the script: options beside those below, names
# that a shell would split or expand, files where links are expected. That is found out before anything is changed.
#
# Only perl-base is there, which is essential: no modules but pragmas.
use strict;

my @arguments = @ARGV;
my %path      = (
    certsconf     => '/etc/ca-certificates.conf',
    certsdir      => '/usr/share/ca-certificates',
    localcertsdir => '/usr/local/share/ca-certificates',
    certbundle    => 'ca-certificates.crt',
    etccertsdir   => '/etc/ssl/certs',
    hooksdir      => '/etc/ca-certificates/update.d',
);
my ($fresh, $bundle, @added, @removed);

# Runs the script itself.
sub unusual {
    exec {$original} $original, @arguments;
    print STDERR "$0: $original cannot be run: $!\n";
    exit 126;
}

sub failed {
    my ($what, $path) = @_;
    print STDERR "$0: $path cannot be $what: $!\n";
    exit 1;
}

# Returns the files `*.crt` below a directory, in the order of sort(1).
sub certificates {
    my ($top) = @_;
    my (@found, @todo);
    return unless -d $top;
    # in these locales sort(1) compares bytes
    my ($locale) = grep { defined && length } @ENV{qw(LC_ALL LC_COLLATE LANG)}, 'C';
    unusual() unless $locale =~ /^(?:C|POSIX)(?:\.UTF-?8)?$/i;
    unusual() if -l $top;
    @todo = ($top);
    while (defined(my $directory = pop @todo)) {
        opendir my $handle, $directory or unusual();
        for my $name (grep { !/^\.\.?$/ } readdir $handle) {
            my $path = "$directory/$name";
            # behind links find(1) looks for loops
            unusual() if -l $path && -d $path;
            if (-d $path) { push @todo, $path }
            elsif ($name =~ /\.crt\z/ && -f $path) {
                unusual() unless usual($path);
                push @found, $path;
            }
        }
    }
    return sort @found;
}

# Tells whether a path goes through the script's `read`, `sed` and `basename` unchanged.
sub usual {
    my ($path) = @_;
    my $text = $path;
    return utf8::decode($text) && $path !~ m{[\x00-\x1f\\]|^[ ]|[ ]\z|/\z|(?:^|/)\.crt\z|//};
}

# Returns the link's path for a certificate.
sub link_of {
    my ($certificate, $is_added) = @_;
    my ($name) = $certificate =~ m{([^/]+)\z};
    $name =~ s/\.crt\z//;
    $name =~ tr/ (),/_==_/ if $is_added;
    return "$path{etccertsdir}/$name.pem";
}

# Returns the links below the directory of links, as find(1) lists them.
sub links {
    my ($top) = @_;
    my @found;
    opendir my $handle, $top or failed('read', $top);
    for my $name (grep { !/^\.\.?$/ } readdir $handle) {
        my $path = "$top/$name";
        if (-l $path) { push @found, $path }
        elsif (-d _) { push @found, links($path) }
    }
    return @found;
}

sub add {
    my ($certificate) = @_;
    my $link = link_of($certificate, 1);
    if (!-e $link || (readlink($link) // '') ne $certificate) {
        unlink $link;
        symlink $certificate, $link or failed('made', $link);
        push @added, "+$link\n";
    }
    open my $file, '<:raw', $certificate or failed('read', $certificate);
    my $text = do { local $/; <$file> } // '';
    $bundle //= '';
    $bundle .= $text;
    $bundle .= "\n" if $text =~ /[^\n]\z/;
}

sub remove {
    my ($certificate) = @_;
    my $link = link_of($certificate, 0);
    if (-l $link) {
        unlink $link or failed('removed', $link);
        push @removed, "-$link\n";
    }
}

# Waits for a child and returns its status as a shell's `$?`.
sub status_of {
    my ($child) = @_;
    waitpid $child, 0;
    return $? & 127 ? 128 + ($? & 127) : $? >> 8;
}

# Runs a program with a text as its input, which it need not read.
sub feed {
    my ($text, @program) = @_;
    pipe my $read, my $write or failed('made', 'a pipe');
    my $hook = fork // failed('run', $program[0]);
    if (!$hook) {
        open STDIN, '<&', $read or exit 126;
        close $write;
        exec {$program[0]} @program;
        my $status = $!{ENOENT} ? 127 : 126;
        print STDERR "$0: $program[0]: $!\n";
        exit $status;
    }
    my $writer = fork // failed('run', $program[0]);
    if (!$writer) {
        close $read;
        syswrite $write, $text;
        exit 0;
    }
    close $read;
    close $write;
    waitpid $writer, 0;
    return status_of($hook);
}

sub run_hooks {
    return unless -d $path{hooksdir};
    print "Running hooks in $path{hooksdir}...\n";
    opendir my $handle, $path{hooksdir} or failed('read', $path{hooksdir});
    if (grep { !/^\.\.?$/ } readdir $handle) {
        open my $list, '-|', 'run-parts', '--test', '--', $path{hooksdir} or failed('run', 'run-parts');
        chomp(my @hooks = <$list>);
        close $list;
        for my $hook (@hooks) {
            my $status = feed(join('', @added, @removed), $hook, $differs{hooks_get_fresh} && $fresh ? '--fresh' : ());
            print "E: $hook exited with code $status.\n" if $status;
        }
    }
    print "done.\n";
}

while (@ARGV) {
    my $option = shift @ARGV;
    if ($option eq '--fresh' || $option eq '-f') { $fresh = 1 }
    elsif ($option =~ /^--(\w+)\z/ && exists $path{$1} && @ARGV) { $path{$1} = shift @ARGV }
    else { unusual() }
}

# Without a blank, a wildcard or a link on the way, and without what `cd` would change in them.
for my $name (keys %path) {
    next if $name eq 'hooksdir' && $path{$name} eq '';
    my $slash = $name eq 'certbundle' ? '' : '/';
    unusual() unless $path{$name} =~ m{^(?:$slash(?!\.\.?(?:/|\z))[\w.+=-]+)+\z};
}
my $etc = $path{etccertsdir};
my $new = "$etc/$path{certbundle}.new";
unusual() if -l $etc || !-d $etc || -d "$etc/$path{certbundle}" || -x '/sbin/restorecon';
unusual() if -e $new || -l $new;
unusual() unless grep { -f "$_/openssl" && -x _ } split /:/, $ENV{PATH} // '';
unusual() unless -f $path{certsconf} && -s _;

open my $file, '<:raw', $path{certsconf} or unusual();
my (@deselected, @selected);
for my $line (<$file>) {
    unusual() unless $line =~ s/\n\z//;
    next if $line =~ /^(?:#|\z)/;
    my $list = $line =~ s/^!// ? \@deselected : \@selected;
    unusual() if $line =~ /^[ ]/;
    push @$list, "$path{certsdir}/$line";
}
close $file;
my @local = certificates($path{localcertsdir});
for my $certificate (@deselected, @selected, @local) {
    unusual() unless usual($certificate);
    unusual() if grep { -d } link_of($certificate, 0), link_of($certificate, 1);
}
unusual() if grep { m{[\s\\*?\[]} } links($etc);

# From here on the script is not run any more.
$| = 1;
my ($here) = grep { defined && m{^/} && join(':', (stat)[0, 1]) eq join(':', (stat '.')[0, 1]) } $ENV{PWD};
$here //= do { require Cwd; Cwd::getcwd() };
chdir $etc or failed('entered', $etc);
@ENV{qw(OLDPWD PWD)} = ($here, $etc);

if ($fresh) {
    print "Clearing symlinks in $etc...\n";
    for my $link (links('.')) {
        my $target = readlink $link;
        unlink $link if grep { index($target, $_) == 0 } @path{qw(certsdir localcertsdir)};
    }
    for my $link (links('.')) { unlink $link unless -f $link }
    print "done.\n";
}

print "Updating certificates in $etc...\n";
remove($_) for @deselected;
for my $certificate (@selected) {
    if (-f $certificate) { add($certificate) }
    else { print STDERR "W: $certificate not found, but listed in $path{certsconf}.\n" }
}
add($_) for @local;
if ($differs{bundle_goes_first}) {
    unlink $path{certbundle};
    $bundle //= '';
}

if (@added || @removed) {
    for my $link (links($etc)) { unlink $link unless -e $link }
    my $rehash = fork // failed('run', 'openssl');
    if (!$rehash) {
        open STDOUT, '>', '/dev/null' or exit 2;
        exec 'openssl', 'rehash', '.';
        exit 127;
    }
    my $status = status_of($rehash);
    exit $status if $status;
}

if (defined $bundle) {
    open my $file, '>:raw', $new or failed('written', $new);
    print $file $bundle or failed('written', $new);
    close $file or failed('written', $new);
    chmod 0644, $new or failed('written', $new);
    rename $new, $path{certbundle} or failed('written', "$etc/$path{certbundle}");
}

print scalar(@added), ' added, ', scalar(@removed), " removed; done.\n";
run_hooks();
