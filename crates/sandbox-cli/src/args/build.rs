//! What is built, and of what.

use std::path::PathBuf;

use clap::Args;
use sandbox_core::output::Format;

/// What a tree is built of.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Packages and archives")]
pub struct Build {
    /// Package set: essential, apt, minbase (= required), buildd, important (= -), standard
    /// [default: minbase, or with a lock what it was made for]
    #[arg(long, value_name = "SET")]
    pub variant: Option<String>,
    /// Packages beside the variant's: NAME, NAME=VERSION, or NAME/SUITE for a suite's version
    #[arg(long, value_name = "PACKAGE,…", value_delimiter = ',')]
    pub include: Vec<String>,
    /// Packages that must not be installed
    #[arg(long, value_name = "PACKAGE,…", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Mirror to use; `security=URL` names the mirror of the security archive. May be repeated
    #[arg(long, value_name = "[ARCHIVE=]URL")]
    pub mirror: Vec<String>,
    /// Pockets to use beside `release`, or `none` [default: those of the image file]
    #[arg(long, value_name = "POCKET,…", value_delimiter = ',')]
    pub pocket: Vec<String>,
    /// Components to use [default: those of the image file]
    #[arg(long, value_name = "COMPONENT,…", value_delimiter = ',')]
    pub component: Vec<String>,
    /// Trust this keyring beside the suite's own
    #[arg(long, value_name = "FILE")]
    pub keyring: Vec<PathBuf>,
    /// Trust this keyring instead of the suite's own
    #[arg(long, value_name = "FILE")]
    pub keyring_only: Vec<PathBuf>,
    /// Take packages from the archives of this deb822 file too, each trusted by its Signed-By alone
    #[arg(long, value_name = "FILE.sources")]
    pub extra_source: Vec<PathBuf>,
    /// Debian architecture [default: the host's]
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,
    /// Install recommended packages too
    #[arg(long)]
    pub recommends: bool,
    /// Accept indexes past their Valid-Until date
    #[arg(long)]
    pub ignore_valid_until: bool,
    /// Accept a Release file older than one that was seen before, which may be a replayed one
    #[arg(long)]
    pub allow_older_release: bool,
    /// npm registry for profiles that take something from one
    #[arg(long, value_name = "URL", env = "SANDBOX_NPM_REGISTRY", hide_env_values = true)]
    pub npm_registry: Option<String>,
    /// Python index for profiles that take something from one
    #[arg(long, value_name = "URL", env = "SANDBOX_PYTHON_INDEX", hide_env_values = true)]
    pub python_index: Option<String>,
    /// Ask URL for what is at addresses that begin with PREFIX; digests stay those of the lock. May be repeated
    #[arg(long, value_name = "PREFIX=URL", env = "SANDBOX_VENDOR_MIRROR", hide_env_values = true)]
    #[arg(value_delimiter = ',')]
    pub vendor_mirror: Vec<String>,
    /// Trust the certificate authorities of this PEM file too
    #[arg(long, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
}

/// `sandbox bootstrap`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox bootstrap trixie ./tree
  sandbox bootstrap bookworm base.tar.zst --include openssh-server,vim
  sandbox bootstrap trixie root.squashfs
  sandbox bootstrap trixie - | podman import - trixie
  sandbox bootstrap --locked=web.lock web.tar")]
pub struct Bootstrap {
    /// Suite: the name of an image, such as trixie; may be left out with --locked
    pub suite: String,
    /// Directory (missing or empty; a mount point too), a file ending in .tar, .tar.gz, .tar.bz2, .tar.xz, .tar.zst,
    /// .squashfs, .ext2 or .ext4, or `-` for stdout
    #[arg(required_unless_present = "locked")]
    pub target: Option<PathBuf>,
    /// Format of the output [default: by the target's ending; tar for `-`]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    #[command(flatten)]
    pub locked: Locked,
    /// Profiles to build in
    #[arg(long, value_name = "PROFILE,…", value_delimiter = ',')]
    pub profile: Vec<String>,
    /// Host name of the tree
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    #[command(flatten)]
    pub build: Build,
}

/// A lock to build from.
#[derive(Clone, Debug, Args)]
pub struct Locked {
    /// Build exactly the lock [default: sandbox.lock]. What is not given is as the lock was made for; what is
    /// given must be met by it
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = LOCK)]
    pub locked: Option<PathBuf>,
}

/// Where a lock is unless told otherwise.
pub const LOCK: &str = "sandbox.lock";

/// `sandbox resolve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sandbox resolve trixie --include docker.io
  sandbox resolve bookworm --include git --recommends --why perl
  sandbox resolve trixie --json | jq '.packages[].size'")]
pub struct Resolve {
    /// Suite: the name of an image, such as trixie
    pub suite: String,
    /// Profiles to build in
    #[arg(long, value_name = "PROFILE,…", value_delimiter = ',')]
    pub profile: Vec<String>,
    /// Print what brings this package in, from the wish down to it
    #[arg(long, value_name = "PACKAGE")]
    pub why: Option<String>,
    #[command(flatten)]
    pub build: Build,
}
