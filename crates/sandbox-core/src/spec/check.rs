//! What can be wrong with image and profile files.

use std::{io, path::PathBuf};

use crate::error::{Cause, Class, Hint};

/// A file of images or profiles that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No file of that name is anywhere.
    #[error("there is no {kind} `{name}`")]
    Missing {
        /// `image` or `profile`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// The nearest that there is.
        nearest: Option<String>,
        /// All that there are.
        known: Vec<String>,
    },
    /// A word means several images.
    #[error("`{name}` may mean {found}", found = found.join(" or "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// What it may mean.
        found: Vec<String>,
    },
    /// It is there and cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML, or not of the schema.
    #[error("{origin}:{line}: {problem}")]
    Malformed {
        /// The file.
        origin: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
        /// The nearest known key, where one is unknown.
        nearest: Option<String>,
    },
    /// Its `schema` is not one that this program reads.
    #[error("{origin}: `schema = {schema}` is not known; this program reads `schema = 1`")]
    Schema {
        /// The file.
        origin: String,
        /// What it says.
        schema: u32,
    },
    /// Its `name` is not the file's.
    #[error("{origin}: `name = \"{name}\"` does not fit the file, which is asked for as `{wanted}`")]
    Name {
        /// The file.
        origin: String,
        /// What it says.
        name: String,
        /// What the file is called.
        wanted: String,
    },
    /// Two profiles serve the same port.
    #[error("port {port} is served by {one} and by {other}: only one of them can have it")]
    Port {
        /// The port.
        port: u16,
        /// The file that says so first.
        one: String,
        /// The other.
        other: String,
    },
    /// Profiles require each other.
    #[error("profiles require each other in a circle: {}", circle.join(" → "))]
    Circle {
        /// The names, the first again at the end.
        circle: Vec<String>,
    },
    /// A value has the right type and no sense.
    #[error("{origin}: {key}: {problem}")]
    Value {
        /// The file.
        origin: String,
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The bottom layer lacks what only an image has.
    #[error("image `{image}` lacks `{key}`")]
    Incomplete {
        /// The image.
        image: String,
        /// The key that is missing.
        key: &'static str,
    },
}

impl Cause for Error {
    fn class(&self) -> Class {
        match self {
            Self::Missing { .. } | Self::Ambiguous { .. } => Class::Usage,
            _ => Class::File,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Missing { nearest, known, kind, .. } => {
                let near = nearest.iter().map(|nearest| Hint::Note(format!("did you mean `{nearest}`?")));
                // images are few
                let all = (nearest.is_none() || *kind == super::Kind::Image.word())
                    .then(|| Hint::Note(format!("the {kind}s there are: {}", known.join(", "))));
                near.chain(all).collect()
            }
            Self::Ambiguous { found, .. } => {
                vec![Hint::Note(format!("name the image itself: {}", found.join(", ")))]
            }
            Self::Malformed { nearest: Some(nearest), .. } => {
                vec![Hint::Note(format!("did you mean `{nearest}`?"))]
            }
            _ => Vec::new(),
        }
    }
}

/// Gives the known word that is nearest to one that is not known, if any is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Makes our error of the TOML reader's, with its line and, for an unknown key, the nearest known one.
pub(super) fn malformed(origin: &str, text: &str, error: &toml::de::Error) -> Error {
    let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
    let message = error.message();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let nearest = message
        .starts_with("unknown field")
        .then(|| quoted.next().and_then(|unknown| nearest(unknown, quoted)))
        .flatten();
    let problem =
        message.split(", expected").next().unwrap_or(message).replace("unknown field", "unknown key");
    Error::Malformed { origin: origin.to_owned(), line, problem, nearest }
}
