//! Arguments that say what a tree is built of, made into an order.

use std::{collections::BTreeMap, fs, path::PathBuf};

use sandbox_core::{
    error::Context as _,
    host::{
        address::without_user,
        foreign,
        transport::{Http, HttpOptions},
    },
    keyring::{KeyFileError, Keyring},
    layer::Order,
    lock::Asked,
    report::{Event, Reporter},
    resolve::Variant,
    spec::{self, Spec, Trusted, mirrors},
    store::Store,
};

use crate::{
    args::Build,
    exit::Exit,
    failure::Failure,
    settings::{Proxies, Settings},
};

/// The architecture that this program was built for, in Debian's words.
pub const ARCHITECTURE: &str = foreign::NATIVE;

/// Makes an order of the arguments, a suite and profiles.
///
/// # Errors
/// Where an argument or a file is wrong.
pub fn order(
    args: &Build,
    suite: &str,
    profiles: &[String],
    hostname: &str,
    settings: &Settings,
) -> Result<Order, Failure> {
    let image = settings.catalogue().image(suite).during("read", format!("image `{suite}`"))?;
    // a tree that is given no name has its image's
    let hostname = if hostname == suite { image.as_str() } else { hostname };
    let suite = image.as_str();
    let mut spec = spec::stack(&settings.catalogue(), suite, profiles)
        .during("read", format!("image `{suite}` with its profiles"))?;
    spec.sources.extend(extra_sources(args)?);
    let architecture = args.arch.clone().unwrap_or_else(|| ARCHITECTURE.to_owned());
    let word = args.variant.as_deref().unwrap_or("minbase");
    let variant: Variant = word.parse().map_err(|_| {
        Failure::said(
            Exit::USAGE,
            format!("`{word}` is no variant; there are essential, apt, minbase, buildd, important, standard"),
        )
    })?;
    let mut order = Order {
        variant,
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        recommends: args.recommends,
        guesses: guesses(args, &spec, &architecture),
        mirrors: mirrors(args, &spec)?,
        pockets: match args.pocket.as_slice() {
            [] => None,
            [none] if none == "none" => Some(Vec::new()),
            pockets => Some(pockets.to_vec()),
        },
        components: (!args.component.is_empty()).then(|| args.component.clone()),
        keyrings: read_keyrings(&args.keyring)?,
        keyrings_only: read_keyrings(&args.keyring_only)?,
        ignore_valid_until: args.ignore_valid_until,
        allow_older_release: args.allow_older_release,
        asked: Asked {
            image: suite.to_owned(),
            profiles: profiles.to_vec(),
            variant: variant.to_string(),
            include: args.include.clone(),
            exclude: args.exclude.clone(),
            recommends: args.recommends,
        },
        locked: None,
        hostname: hostname.to_owned(),
        npm_registry: settings.npm_registry(args.npm_registry.as_deref()),
        python_index: settings.python_index(args.python_index.as_deref()),
        architecture,
        spec,
    };
    add_host_mirrors(&mut order, args, settings);
    Ok(order)
}

/// Says which files of the user's stand in front of those of the program.
pub fn hidden(order: &Order, reporter: &dyn Reporter, settings: &Settings) {
    let catalogue = settings.catalogue();
    for file in order.spec.files.iter().filter(|file| catalogue.hides(file.kind, &file.name, &file.origin)) {
        let text =
            format!("{} `{}` is {}, which hides the built-in one", file.kind.word(), file.name, file.origin);
        reporter.report(Event::Notice { text });
    }
}

fn read_keyrings(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, Failure> {
    let read = |path: &PathBuf| {
        let bytes = fs::read(path).map_err(|error| {
            Failure::said(Exit::FILE, format!("keyring {} cannot be read: {error}", path.display()))
        })?;
        let named = |source| KeyFileError { path: path.display().to_string(), source };
        Keyring::read(&bytes).map_err(named).during("read", "a keyring")?;
        Ok(bytes)
    };
    paths.iter().map(read).collect()
}

/// Reads the archives of `--extra-source` with their keys.
fn extra_sources(args: &Build) -> Result<Vec<Trusted>, Failure> {
    let mut found = Vec::new();
    for path in &args.extra_source {
        let origin = path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::said(Exit::FILE, format!("{origin} cannot be read: {error}")))?;
        for mut source in spec::of_stanzas(&origin, &text).during("read", origin.clone())? {
            source.uris.iter_mut().for_each(|url| *url = without_user(url).0);
            found.push(spec::trusted(&origin, source).during("read", origin.clone())?);
        }
    }
    Ok(found)
}

/// Reads the mirrors that the user named; the image file's are the core's to add.
fn mirrors(args: &Build, spec: &Spec) -> Result<mirrors::Mirrors, Failure> {
    let mut asked: mirrors::Mirrors = BTreeMap::new();
    for mirror in &args.mirror {
        let (archive, url) = named(mirror);
        if !spec.layer.archive.contains_key(archive) {
            let known: Vec<_> = spec.layer.archive.keys().map(String::as_str).collect();
            return Err(Failure::said(
                Exit::USAGE,
                format!("image `{}` has no archive `{archive}`; it has {}", spec.image, known.join(", ")),
            ));
        }
        let (url, _) = without_user(url.trim_end_matches('/'));
        asked.entry(archive.to_owned()).or_default().push(url);
    }
    Ok(asked)
}

/// Adds the host's own mirrors for archives of which the user named none. They are of the host's architecture: where
/// the image has another's elsewhere, they have nothing for it.
fn add_host_mirrors(order: &mut Order, args: &Build, settings: &Settings) {
    let (os_release, sources) = settings.host_apt();
    let mirrors::OfHost { mirrors, candidates } =
        mirrors::of_host(&os_release, &sources, &order.spec.distribution);
    let is_named = |archive: &str| args.mirror.iter().any(|mirror| named(mirror).0 == archive);
    let usable = |archive: &str| {
        let file = order.spec.layer.archive.get(archive);
        file.is_some_and(|file| file.mirror_of(&order.architecture) == file.mirror_of(ARCHITECTURE))
    };
    for (found, into) in [(mirrors, &mut order.mirrors), (candidates, &mut order.guesses)] {
        for (archive, urls) in found {
            if usable(&archive) && !is_named(&archive) {
                let urls = urls.iter().map(|url| without_user(url).0);
                into.entry(archive).or_default().extend(urls);
            }
        }
    }
}

/// Takes `security=URL` apart; an address alone is of the main archive.
fn named(mirror: &str) -> (&str, &str) {
    match mirror.split_once('=') {
        Some((archive, url)) if !archive.contains(['/', ':']) => (archive, url),
        _ => ("main", mirror),
    }
}

/// Where only the main archive has a mirror of the user's, the security archive may be beside it.
fn guesses(args: &Build, spec: &Spec, architecture: &str) -> mirrors::Mirrors {
    let named: Vec<_> = args.mirror.iter().map(|mirror| named(mirror)).collect();
    let usual =
        spec.layer.archive.get("security").filter(|_| named.iter().all(|(archive, _)| *archive == "main"));
    let main: Vec<String> = named.iter().map(|(_, url)| without_user(url.trim_end_matches('/')).0).collect();
    let found = usual.map(|usual| mirrors::siblings(&main, usual.mirror_of(architecture)));
    found.map(|urls| ("security".to_owned(), urls)).into_iter().collect()
}

/// Opens the cache.
///
/// # Errors
/// Where the folder cannot be made.
pub fn store(settings: &Settings) -> Result<Store, Failure> {
    Ok(Store::open(&settings.cache).during("open", format!("the cache {}", settings.cache.display()))?)
}

/// Makes the transport.
///
/// # Errors
/// Where an argument is wrong, or TLS cannot be set up.
pub fn transport(args: &Build, settings: &Settings) -> Result<Http, Failure> {
    let Proxies { http, https, none } = settings.proxies.clone();
    let options = HttpOptions {
        http_proxy: http,
        https_proxy: https,
        no_proxy: none,
        elsewhere: elsewhere(&args.vendor_mirror)?,
        authorities: authorities(&args.ca)?,
        credentials: settings.credentials(args),
        ..HttpOptions::default()
    };
    Ok(Http::new(&options).during("set up", "HTTP")?)
}

/// Reads `PREFIX=URL`: both are addresses, so that the sign between them is the one before the second scheme.
fn elsewhere(mirrors: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let pair = |mirror: &String| {
        let at = ["=https://", "=http://", "=file://"].iter().find_map(|sign| mirror.find(sign));
        let pair = at.map(|at| (mirror[..at].to_owned(), without_user(&mirror[at + 1..]).0));
        pair.filter(|(prefix, _)| prefix.contains("://")).ok_or_else(|| {
            let text = format!("`--vendor-mirror {mirror}` is not of the form PREFIX=URL");
            Failure::said(Exit::USAGE, text).hint(
                "give two addresses",
                "--vendor-mirror https://github.com=https://mirror.example/github",
            )
        })
    };
    mirrors.iter().filter(|mirror| !mirror.is_empty()).map(pair).collect()
}

fn authorities(files: &[PathBuf]) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    for file in files {
        let read = fs::read(file).map_err(|error| {
            Failure::said(Exit::FILE, format!("--ca {} cannot be read: {error}", file.display()))
        })?;
        if !String::from_utf8_lossy(&read).contains("-----BEGIN CERTIFICATE-----") {
            return Err(Failure::said(Exit::FILE, format!("--ca {} has no certificate", file.display())));
        }
        bytes.extend(read);
        bytes.push(b'\n');
    }
    Ok(bytes)
}
