//! A stack built at once, and file by file on copies of what is below: the same bytes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sandbox_core::{
    configure,
    digest::Sha256,
    host::{
        runner::Processes,
        transport::{Http, HttpOptions},
    },
    layer::{self, Doors, Order, Packing},
    lock::{Asked, Lock},
    output,
    report::Silent,
    resolve::Variant,
    spec::{self, Catalogue},
    store::Store,
    unpack,
};

use crate::{
    apt::mirrors_of_host,
    lab::{LONG, Lab, text},
    process,
    runner::skip,
};

/// vim-runtime diverts a file of vim-tiny: dpkg must unpack it. The last profile's package has a configuration
/// file where the first has put one.
const PROFILES: &[(&str, &str)] = &[
    (
        "first",
        "schema = 1\nname = \"first\"\nsummary = \"x\"\n[packages]\ninstall = [\"vim-tiny\", \"procps\"]\n\
         [[files]]\npath = \"/etc/sudo.conf\"\ncontent = \"# a profile's\\n\"\n\
         [[users]]\nname = \"agent\"\nuid = 1000\ngroups = []\n",
    ),
    (
        "second",
        "schema = 1\nname = \"second\"\nsummary = \"x\"\n[packages]\ninstall = [\"vim-runtime\", \"ca-certificates\"]\n",
    ),
    (
        "third",
        "schema = 1\nname = \"third\"\nsummary = \"x\"\n[packages]\ninstall = [\"sudo\", \"libproc2-0\"]\n",
    ),
];

pub fn a_stack_is_the_same_bytes_from_any_layer(lab: &Lab) {
    if !rustix::process::geteuid().is_root() {
        skip("needs root");
    }
    let order = order(lab);
    let store = Store::open(&lab.kept("cache")).expect("a cache");
    let transport = Http::new(&HttpOptions::default()).expect("a transport");
    let doors = Doors {
        transport: &transport,
        runner: &Processes::new(),
        store: &store,
        reporter: &Silent,
        now: now(),
    };
    let lock = layer::lock(&order, &doors).expect("a lock");
    let layers: Vec<_> = lock.packages.chunk_by(|one, other| one.layer == other.layer).collect();
    let names: Vec<_> = layers.iter().map(|layer| &*layer[0].layer).collect();
    assert_eq!(names, ["trixie", "first", "second", "third"]);
    let vim: Vec<_> =
        layers[2].iter().map(|package| &*package.name).filter(|name| name.starts_with("vim")).collect();
    assert_eq!(vim, ["vim-runtime"]);

    let whole = lab.path("stack-0");
    fs::create_dir(&whole).expect("a folder");
    let mut copies = Vec::new();
    let built = layer::build_from(
        &order,
        &lock,
        &whole,
        0,
        &mut |at, rootfs| {
            let copy = lab.path(&format!("stack-{}", at + 1));
            process::run(&["cp", "-a", text(rootfs.path()), text(&copy)], "", LONG).ok();
            let beside = copy.join(unpack::BESIDE);
            process::run(&["rm", "-rf", text(&beside)], "", LONG).ok();
            copies.push(copy);
            Ok(())
        },
        &doors,
    );
    let digest = finished(lab, &built.unwrap_or_else(|error| panic!("{error:?}")), &lock, &whole);
    looked_at(&whole);
    assert_eq!(copies.len(), 4);
    for (at, copy) in copies.iter().enumerate() {
        let built = layer::build_from(&order, &lock, copy, at + 1, &mut |_, _| Ok(()), &doors);
        let rootfs = built.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(finished(lab, &rootfs, &lock, copy), digest, "from {} of 4 files", at + 1);
    }
    for path in copies.iter().chain([&whole]) {
        process::run(&["rm", "-rf", "--one-file-system", text(path)], "", LONG).ok();
    }
}

/// Sees in the tree what only dpkg could decide, and what a profile had put there first.
fn looked_at(tree: &Path) {
    let read =
        |path: &str| fs::read_to_string(tree.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(read("etc/sudo.conf"), "# a profile's\n");
    assert!(read("etc/sudo.conf.dpkg-dist").contains("sudo"), "the package's own is beside it");
    let help = tree.join("usr/share/vim/vim91/doc");
    assert!(help.join("help.txt").exists() && help.join("help.txt.vim-tiny").exists(), "{help:?}");
    let audit = process::run(&["chroot", text(tree), "dpkg", "--audit"], "", LONG);
    assert_eq!(audit.ok(), "");
    let states = read("var/lib/apt/extended_states");
    let automatic = |name: &str| states.contains(&format!("Package: {name}\n"));
    // a dependency of the first profile, that the third asks for by name
    assert!(!automatic("libproc2-0") && !automatic("procps") && automatic("openssl"), "{states}");
    assert!(!tree.join(unpack::BESIDE).exists());
}

fn finished(lab: &Lab, rootfs: &configure::Rootfs, lock: &Lock, tree: &Path) -> Sha256 {
    let sources = configure::Sources { file: "x.sources".into(), text: String::new(), beside: Vec::new() };
    let options = configure::Options { hostname: "same".to_owned(), sources, epoch: lock.epoch };
    configure::finish(rootfs, &options, &Silent).expect("a finished tree");
    let file = PathBuf::from(format!("{}.tar", text(tree)));
    let packing = Packing {
        file: &file,
        work: &lab.path(""),
        compression: output::Compression::Plain,
        epoch: lock.epoch,
    };
    layer::pack(tree, packing, &Silent).expect("a packed tree");
    let digest = Sha256::of(&fs::read(&file).expect("a packed tree"));
    fs::remove_file(&file).expect("it is ours");
    digest
}

fn order(lab: &Lab) -> Order {
    let folder = lab.path("profiles");
    fs::create_dir_all(&folder).expect("a folder");
    let mut profiles = Vec::new();
    for (name, profile) in PROFILES {
        let path = folder.join(format!("{name}.toml"));
        fs::write(&path, profile).expect("a profile");
        profiles.push(text(&path).to_owned());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let catalogue = Catalogue { folders: vec![root], embedded: &[] };
    let [main, security] = mirrors_of_host();
    Order {
        spec: spec::stack(&catalogue, "trixie", &profiles).expect("a stack"),
        architecture: "amd64".to_owned(),
        variant: Variant::Minbase,
        include: Vec::new(),
        exclude: Vec::new(),
        recommends: false,
        guesses: Default::default(),
        mirrors: [("main".to_owned(), vec![main]), ("security".to_owned(), vec![security])].into(),
        pockets: Some(Vec::new()),
        components: None,
        keyrings: Vec::new(),
        keyrings_only: Vec::new(),
        ignore_valid_until: false,
        allow_older_release: false,
        asked: Asked::default(),
        locked: None,
        hostname: "same".to_owned(),
        npm_registry: String::new(),
        python_index: String::new(),
    }
}

#[expect(clippy::disallowed_methods, reason = "whether indexes are past their date is told by the clock")]
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a later year");
    i64::try_from(since.as_secs()).expect("a nearer year")
}
