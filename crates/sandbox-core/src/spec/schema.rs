//! The JSON schema of image and profile files, made of the structs themselves, and all that a file has against it.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::{
    check::nearest,
    file::Layer,
    sound::Problem,
    spans::{Item, Node, key},
};

/// Gives the schema.
///
/// **Source**: JSON Schema, draft 2020-12.
#[must_use]
pub fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = schemars::schema_for!(Layer).to_value();
        schema["title"] = json!("An image or profile of sandbox");
        schema
    })
}

/// Tells everything that a file has against the schema, in the order of its lines.
#[must_use]
pub fn problems(file: &Node) -> Vec<Problem> {
    let mut found = Vec::new();
    against(file, schema(), "", &mut found);
    found.sort_by_key(|problem| file.line_of(&problem.key));
    found
}

fn against(node: &Node, rule: &Value, path: &str, found: &mut Vec<Problem>) {
    let rule = followed(rule);
    if let Some(words) = words_of(rule) {
        return one_of(node, &words, path, found);
    }
    if let Some(choices) = rule.get("anyOf").or_else(|| rule.get("oneOf")).and_then(Value::as_array) {
        let Some(choice) = choices.iter().find(|choice| choice["type"] != "null") else { return };
        return against(node, choice, path, found);
    }
    let kinds: Vec<&str> = match &rule["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect()
        }
        _ => Vec::new(),
    };
    let kind = kind_of(node);
    if !kinds.is_empty() && !kinds.contains(&kind) {
        let wanted: Vec<_> = kinds.iter().map(|kind| word(kind)).collect();
        let text = format!("it has to be {}, not {}", wanted.join(" or "), word(kind));
        return found.push(Problem { key: path.to_owned(), text });
    }
    match &node.item {
        Item::Table(pairs) => of_table(pairs, rule, path, found),
        Item::List(items) => {
            for (at, item) in items.iter().enumerate() {
                against(item, &rule["items"], &format!("{path}[{at}]"), found);
            }
        }
        Item::Leaf(value) => in_range(value, rule, path, found),
    }
}

fn of_table(pairs: &[(String, Node)], rule: &Value, path: &str, found: &mut Vec<Problem>) {
    let empty = Map::new();
    let known = rule["properties"].as_object().unwrap_or(&empty);
    let below = |name: &str| if path.is_empty() { key(name) } else { format!("{path}.{}", key(name)) };
    for (name, node) in pairs {
        match (known.get(name), &rule["additionalProperties"]) {
            (Some(rule), _) => against(node, rule, &below(name), found),
            (None, Value::Bool(false)) => {
                let near = nearest(name, known.keys().map(String::as_str));
                let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                found.push(Problem { key: below(name), text: format!("unknown key `{name}`{near}") });
            }
            (None, rule) => against(node, rule, &below(name), found),
        }
    }
    for name in rule["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !pairs.iter().any(|(known, _)| known == name) {
            found.push(Problem { key: path.to_owned(), text: format!("`{name}` is missing") });
        }
    }
}

fn in_range(value: &toml::Value, rule: &Value, path: &str, found: &mut Vec<Problem>) {
    let Some(number) = value.as_integer() else { return };
    let low = rule["minimum"].as_i64().is_some_and(|least| number < least);
    let high = rule["maximum"].as_i64().is_some_and(|most| number > most);
    if low || high {
        found.push(Problem { key: path.to_owned(), text: format!("{number} is out of range") });
    }
}

/// Gives the values of a rule that is a list of them.
fn words_of(rule: &Value) -> Option<Vec<Value>> {
    if let Some(words) = rule["enum"].as_array() {
        return Some(words.clone());
    }
    let choices = rule["oneOf"].as_array()?;
    choices
        .iter()
        .map(|choice| choice.get("const").cloned().or_else(|| choice["enum"].as_array()?.first().cloned()))
        .collect()
}

fn one_of(node: &Node, words: &[Value], path: &str, found: &mut Vec<Problem>) {
    let value = match &node.item {
        Item::Leaf(value) => serde_json::to_value(value).unwrap_or_default(),
        _ => Value::Null,
    };
    if words.contains(&value) {
        return;
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let all: Vec<_> = words.iter().map(text).collect();
    let near = value.as_str().and_then(|word| nearest(word, all.iter().map(String::as_str)));
    let near = near
        .map_or_else(|| format!("there are {}", all.join(", ")), |near| format!("did you mean `{near}`?"));
    found.push(Problem { key: path.to_owned(), text: format!("`{}` is not known; {near}", text(&value)) });
}

fn followed(rule: &Value) -> &Value {
    let name = rule["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
    name.map_or(rule, |name| &schema()["$defs"][name])
}

fn kind_of(node: &Node) -> &'static str {
    match &node.item {
        Item::Table(_) => "object",
        Item::List(_) => "array",
        Item::Leaf(toml::Value::Boolean(_)) => "boolean",
        Item::Leaf(toml::Value::Integer(_)) => "integer",
        Item::Leaf(toml::Value::Float(_)) => "number",
        Item::Leaf(_) => "string",
    }
}

fn word(kind: &str) -> &'static str {
    match kind {
        "object" => "a table",
        "array" => "a list",
        "boolean" => "true or false",
        "integer" | "number" => "a number",
        _ => "text in quotes",
    }
}

/// Writes the reference of all keys, of the schema.
///
/// **Shape**: Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Keys of images and profiles\n\n\
         Written by `sandbox profile schema --reference` of the program's own types; a test sees that it is whole. \
         How to\nwrite one: [profiles.md](../guide/profiles.md). For editors: [profile.schema.json](profile.schema.json).\n\n\
         ## The file\n\n",
    );
    let mut open: Vec<String> = Vec::new();
    let mut done: Vec<String> = Vec::new();
    table(schema(), &mut text, &mut open);
    while !open.is_empty() {
        let name = open.remove(0);
        if done.contains(&name) {
            continue;
        }
        let rule = &schema()["$defs"][&name];
        text += &format!("## {name}\n\n{}\n\n", rule["description"].as_str().unwrap_or_default());
        if let Some(choices) = rule["oneOf"].as_array() {
            for choice in choices {
                let value = choice.get("const").unwrap_or(&choice["enum"][0]);
                text += &format!("- `{value}`: {}\n", choice["description"].as_str().unwrap_or_default());
            }
            text.push('\n');
        } else if rule.get("properties").is_some() {
            table(rule, &mut text, &mut open);
        } else if let Some(words) = rule["enum"].as_array() {
            let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            text += &format!("{}\n\n", words.join(", "));
        }
        done.push(name);
    }
    text.trim_end().to_owned() + "\n"
}

fn table(rule: &Value, text: &mut String, open: &mut Vec<String>) {
    *text += "| key | is | says |\n|---|---|---|\n";
    let required: Vec<_> =
        rule["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, rule) in rule["properties"].as_object().into_iter().flatten() {
        let mut says =
            rule["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        match rule.get("default") {
            Some(Value::Null) | None => {}
            Some(Value::Array(all)) if all.is_empty() => {}
            Some(Value::Object(_)) => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(default) => says += &format!(" Default: `{default}`."),
        }
        let must = if required.contains(&name.as_str()) { ", must be there" } else { "" };
        *text += &format!("| `{name}` | {}{must} | {says} |\n", kind_words(rule, open));
    }
    text.push('\n');
}

fn kind_words(rule: &Value, open: &mut Vec<String>) -> String {
    if let Some(name) = rule["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        open.push(name.to_owned());
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(choices) = rule["anyOf"].as_array() {
        let choice = choices.iter().find(|choice| choice["type"] != "null");
        return choice.map_or_else(String::new, |choice| kind_words(choice, open));
    }
    let kinds: Vec<_> = match &rule["type"] {
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect()
        }
        kind => kind.as_str().into_iter().collect::<Vec<_>>(),
    };
    match kinds.as_slice() {
        ["array"] => format!("list of {}", kind_words(&rule["items"], open)),
        ["object"] => format!("table of {}", kind_words(&rule["additionalProperties"], open)),
        kinds => {
            let mut words: Vec<_> = kinds
                .iter()
                .map(|kind| match *kind {
                    "string" => "text",
                    kind => word(kind),
                })
                .collect();
            words.dedup();
            words.join(" or ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        let node = Node::read(text).unwrap();
        problems(&node)
            .into_iter()
            .map(|p| format!("{}: {}: {}", node.line_of(&p.key), p.key, p.text))
            .collect()
    }

    #[test]
    fn everything_that_is_wrong_is_found_at_once() {
        let text = "schema = \"1\"\nrequire = []\n[packages]\ninstal = []\nexclude = \"x\"\n\
            [[volumes]]\npath = \"/a/b\"\nkind = \"auht\"\n[[ports]]\nport = 70000\nwhat = \"x\"\nprotocol = \"sctp\"\n\
            [[files]]\npath = \"/x\"\n[machine]\nnesting = 3\n";
        assert_eq!(
            said(text),
            [
                "1: schema: it has to be a number, not text in quotes",
                "1: : `name` is missing",
                "2: require: unknown key `require`; did you mean `requires`?",
                "4: packages.instal: unknown key `instal`; did you mean `install`?",
                "5: packages.exclude: it has to be a list, not text in quotes",
                "8: volumes[0].kind: `auht` is not known; did you mean `auth`?",
                "10: ports[0].port: 70000 is out of range",
                "12: ports[0].protocol: `sctp` is not known; there are tcp, udp",
                "13: files[0]: `content` is missing",
                "16: machine.nesting: `3` is not known; there are false, true, 0, 1, 2",
            ]
        );
        assert!(
            said("schema = 1\nname = \"p\"\n[sysctl]\n\"net.a\" = 1\n[machine]\nnesting = true\n").is_empty()
        );
    }

    #[test]
    fn the_reference_has_every_key_of_every_table() {
        let text = reference();
        let defs = schema()["$defs"].as_object().unwrap();
        for (name, rule) in
            defs.iter().map(|(name, rule)| (name.as_str(), rule)).chain([("The file", schema())])
        {
            assert!(text.contains(&format!("## {name}\n")), "{name}");
            for key in rule["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
                assert!(text.contains(&format!("| `{key}` |")), "{name}.{key}");
            }
        }
    }
}
