//! `sandbox profile show`: every value with the file and line that it comes from.

use sandbox_core::{
    error::Context as _,
    spec::{
        Kind,
        explain::{self, Line, Member},
    },
};

use crate::{
    args::Show,
    exit::Exit,
    failure::Failure,
    settings::Settings,
    table::{Cell, Column, Table},
    ui,
};

/// The image that profiles are resolved with where none is named, as `create` has it.
const RELEASE: &str = "trixie";

/// How wide keys and values may be before places are no longer under each other.
const WIDE: usize = 72;

/// Shows profiles, each by itself or all as one stack.
///
/// # Errors
/// Where a file is wrong.
pub fn run(args: &Show, settings: &Settings) -> Result<Exit, Failure> {
    if args.resolved || args.release.is_some() { resolved(args, settings) } else { each(args, settings) }
}

fn each(args: &Show, settings: &Settings) -> Result<Exit, Failure> {
    let catalogue = settings.catalogue();
    let mut all = Vec::new();
    for name in &args.names {
        let subject = || format!("profile `{name}`");
        let (source, layer) = catalogue.layer(Kind::Profile, name).during("read", subject())?;
        all.extend(explain::one(&source, &layer.name).during("read", subject())?);
    }
    if settings.json() {
        ui::json(&serde_json::json!({ "values": all }));
    } else {
        all.iter().for_each(line);
    }
    Ok(Exit::OK)
}

fn resolved(args: &Show, settings: &Settings) -> Result<Exit, Failure> {
    let catalogue = settings.catalogue();
    let release = args.release.as_deref().unwrap_or(RELEASE);
    let release = &catalogue.image(release).during("read", format!("image `{release}`"))?;
    // every machine has it
    let mut names = vec!["base".to_owned()];
    names.extend(args.names.iter().cloned());
    let (members, lines) = explain::stack(&catalogue, release, &names)
        .during("read", format!("image `{release}` with its profiles"))?;
    if settings.json() {
        ui::json(&serde_json::json!({"stack": members, "values": lines}));
        return Ok(Exit::OK);
    }
    let rows: Vec<_> = members.iter().map(|member| row(member, args)).collect();
    let columns = [
        Column::new("KIND"),
        Column::new("NAME"),
        Column::new("FILE").wrap(),
        Column::new("WHY").wrap().rank(1),
    ];
    ui::table(&Table::new(&columns, rows));
    ui::line("");
    lines.iter().for_each(line);
    Ok(Exit::OK)
}

fn row(member: &Member, args: &Show) -> Vec<Cell> {
    let mut why = Vec::new();
    let called =
        |asked: &String| asked.rsplit('/').next().unwrap_or(asked).trim_end_matches(".toml") == member.name;
    if member.kind == "image" {
        why.push("the release".to_owned());
    } else if args.names.iter().any(called) {
        why.push("asked for".to_owned());
    } else if member.name == "base" {
        why.push("every machine has it".to_owned());
    }
    why.extend(member.required_by.iter().map(|by| format!("required by {by}")));
    vec![member.kind.into(), (&member.name).into(), (&member.file).into(), why.join("; ").into()]
}

fn line(line: &Line) {
    let value = match &line.value {
        toml if toml.to_string().contains('\n')
            || line.value.as_str().is_some_and(|text| text.contains('\n')) =>
        {
            // a text of many lines is shown on one
            serde_json::to_string(&line.value).unwrap_or_default()
        }
        value => value.to_string(),
    };
    let pair = format!("{} = {value}", line.key);
    let pair = match pair.char_indices().nth(WIDE * 2) {
        Some((at, _)) => format!("{}…", &pair[..at]),
        None => pair,
    };
    let place = format!("{}:{}", line.file, line.line);
    match &line.but {
        None => ui::line(&format!("  {pair:<WIDE$}  {place}")),
        Some(but) => ui::line(&format!("- {pair:<WIDE$}  {place} ({but})")),
    }
}
