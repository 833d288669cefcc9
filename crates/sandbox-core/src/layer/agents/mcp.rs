//! Servers of the Model Context Protocol, in the format of each agent's file.

use serde_json::{Map, Value, json};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table};

use crate::spec::{Mcp, McpFormat};

/// Adds the servers to what a file says; a server of the same name is replaced, all else stays.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn merged(before: &str, format: McpFormat, servers: &[Mcp]) -> Result<String, String> {
    match format {
        McpFormat::McpServers => in_json(before, "mcpServers", servers, &of_mcp_servers),
        McpFormat::Opencode => in_json(before, "mcp", servers, &of_opencode),
        McpFormat::CodexToml => in_toml(before, servers),
    }
}

fn in_json(
    before: &str,
    key: &str,
    servers: &[Mcp],
    value: &dyn Fn(&Mcp) -> Value,
) -> Result<String, String> {
    let mut whole: Map<String, Value> = match before.trim() {
        "" => Map::new(),
        text => serde_json::from_str(text).map_err(|error| error.to_string())?,
    };
    let all = whole.entry(key).or_insert_with(|| json!({}));
    let all = all.as_object_mut().ok_or_else(|| format!("`{key}` is no object"))?;
    for server in servers {
        all.insert(server.name.clone(), value(server));
    }
    let text = serde_json::to_string_pretty(&whole).map_err(|error| error.to_string())?;
    Ok(text + "\n")
}

fn of_mcp_servers(server: &Mcp) -> Value {
    let (command, args) = split(server);
    let mut value = json!({"command": command, "args": args});
    if !server.environment.is_empty() {
        value["env"] = json!(server.environment);
    }
    value
}

fn of_opencode(server: &Mcp) -> Value {
    let mut value = json!({"type": "local", "command": server.argv, "enabled": true});
    if !server.environment.is_empty() {
        value["environment"] = json!(server.environment);
    }
    value
}

/// Comments and order of the file stay as they are.
fn in_toml(before: &str, servers: &[Mcp]) -> Result<String, String> {
    let mut whole: DocumentMut = before.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let all = whole.entry("mcp_servers").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let all = all.as_table_like_mut().ok_or("`mcp_servers` is no table")?;
    for server in servers {
        let (command, args) = split(server);
        let mut table = Table::new();
        table.insert("command", toml_edit::value(command));
        table.insert("args", toml_edit::value(args.iter().map(String::as_str).collect::<Array>()));
        if !server.environment.is_empty() {
            let pairs = server.environment.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            table.insert("env", toml_edit::value(pairs.collect::<InlineTable>()));
        }
        all.insert(&server.name, Item::Table(table));
    }
    Ok(whole.to_string())
}

fn split(server: &Mcp) -> (&str, &[String]) {
    match server.argv.split_first() {
        Some((command, args)) => (command, args),
        None => ("", &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<Mcp> {
        let server = |name: &str, argv: &[&str], environment: &[(&str, &str)]| Mcp {
            name: name.to_owned(),
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            environment: environment.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        };
        vec![
            server("memory", &["mcp-memory"], &[]),
            server("files", &["node", "/x y.js", "/srv"], &[("A", "b\"c")]),
        ]
    }

    #[test]
    fn claude_and_gemini() {
        let before = "{\n  \"theme\": \"dark\",\n  \"mcpServers\": {\"own\": {\"command\": \"o\"}, \"memory\": 1}\n}\n";
        let text = merged(before, McpFormat::McpServers, &servers()).unwrap();
        let wanted = json!({
            "theme": "dark",
            "mcpServers": {
                "own": {"command": "o"},
                "memory": {"command": "mcp-memory", "args": []},
                "files": {"command": "node", "args": ["/x y.js", "/srv"], "env": {"A": "b\"c"}},
            },
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), wanted);
        assert!(text.find("theme") < text.find("mcpServers"), "the order of the file is lost");
        assert_eq!(merged(&text, McpFormat::McpServers, &servers()).unwrap(), text);
        for wrong in ["[]", "{", "{\"mcpServers\": 1}"] {
            assert!(merged(wrong, McpFormat::McpServers, &servers()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn codex() {
        let before = "# mine\nmodel = \"o\" # kept\n\n[mcp_servers.own]\ncommand = \"x\"\n\n[tui]\na = 1\n";
        let text = merged(before, McpFormat::CodexToml, &servers()).unwrap();
        assert!(text.starts_with("# mine\nmodel = \"o\" # kept\n"), "{text}");
        let read: toml::Table = text.parse().unwrap();
        let files = &read["mcp_servers"]["files"];
        assert_eq!(files["command"].as_str(), Some("node"));
        assert_eq!(files["args"].as_array().unwrap().len(), 2);
        assert_eq!(files["env"]["A"].as_str(), Some("b\"c"));
        assert_eq!(read["mcp_servers"]["own"]["command"].as_str(), Some("x"));
        assert_eq!(read["tui"]["a"].as_integer(), Some(1));
        assert_eq!(merged(&text, McpFormat::CodexToml, &servers()).unwrap(), text);
        let fresh = merged("", McpFormat::CodexToml, &servers()[..1]).unwrap();
        assert_eq!(fresh, "[mcp_servers.memory]\ncommand = \"mcp-memory\"\nargs = []\n");
        assert!(merged("a = ", McpFormat::CodexToml, &servers()).is_err());
    }

    #[test]
    fn opencode() {
        let text = merged("", McpFormat::Opencode, &servers()).unwrap();
        let wanted = json!({"mcp": {
            "memory": {"type": "local", "command": ["mcp-memory"], "enabled": true},
            "files": {
                "type": "local", "command": ["node", "/x y.js", "/srv"], "enabled": true, "environment": {"A": "b\"c"},
            },
        }});
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), wanted);
    }
}
