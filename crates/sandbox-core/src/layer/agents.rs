//! The top of a stack: what agents are told of the machine, and the servers and skills of all profiles in the
//! files of all agents. It depends on the whole stack, and on no machine.

mod mcp;
mod notes;

use std::path::{Path, PathBuf};

use super::{
    Doors,
    parts::{PartError, files},
};
use crate::{
    Result,
    configure::Rootfs,
    error::Context as _,
    host::root::{Meta, Root},
    report::{Event, Phase},
    spec::{Layer, Skills},
};

/// Writes every agent's files.
///
/// # Errors
/// Of the first file that cannot be written, or that is there and is not of its format.
pub(super) fn put(layer: &Layer, rootfs: &Rootfs, epoch: i64, doors: &Doors<'_>) -> Result<()> {
    let root = rootfs.root();
    for agent in &layer.agent {
        let text = format!("what {} is told", agent.name);
        doors.reporter.report(Event::At { phase: Phase::Customize, subject: text });
        one(layer, agent, root, epoch).during("register", format!("agent `{}`", agent.name))?;
    }
    Ok(())
}

fn one(layer: &Layer, agent: &crate::spec::Agent, root: &Root, epoch: i64) -> Result<(), PartError> {
    let path = &agent.instructions;
    let before = files::read(root, &path.to_string_lossy())?;
    write(root, path, None, &notes::merged(&before, &notes::text(layer)), epoch)?;
    if let (Some(file), false) = (&agent.mcp, layer.mcp.is_empty()) {
        let before = files::read(root, &file.path.to_string_lossy())?;
        let text = mcp::merged(&before, file.format, &layer.mcp)
            .map_err(|problem| PartError::Format { path: file.path.clone(), problem })?;
        write(root, &file.path, Some(&file.owner), &text, epoch)?;
    }
    let Some(folder) = &agent.skills else { return Ok(()) };
    for skills in &layer.skills {
        for (name, target) in each(root, skills) {
            let link = folder.join(name);
            let owner = owner(root, &link, None)?;
            files::folder_for(root, &link, &owner, epoch)?;
            root.link(&link, target.as_os_str(), epoch).map_err(files::failed(&link))?;
        }
    }
    Ok(())
}

/// Finds the skills of a folder: itself, or each below it. Claude Code and Gemini CLI look one level deep only.
fn each(root: &Root, skills: &Skills) -> Vec<(PathBuf, PathBuf)> {
    let own = PathBuf::from(&skills.name);
    let list = root.list(&skills.path).unwrap_or_default();
    if list.is_empty() || root.has(&skills.path.join("SKILL.md")) {
        return vec![(own, skills.path.clone())];
    }
    let mut names: Vec<PathBuf> =
        list.into_iter().filter(|name| root.has(&skills.path.join(name).join("SKILL.md"))).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), skills.path.join(name))).collect()
}

/// Writes a file as its reader's: what stands below somebody's home is that user's.
fn write(root: &Root, path: &Path, named: Option<&str>, text: &str, epoch: i64) -> Result<(), PartError> {
    let owner = owner(root, path, named)?;
    files::folder_for(root, path, &owner, epoch)?;
    let mode = if owner.uid == 0 { 0o644 } else { 0o640 };
    let meta = Meta { mode, uid: owner.uid, gid: owner.gid, mtime: epoch };
    root.write(path, text.as_bytes(), meta).map_err(files::failed(path))
}

/// Finds whose a path is: of who is named, else of who lives there, else root's.
fn owner(root: &Root, path: &Path, named: Option<&str>) -> Result<files::Account, PartError> {
    if let Some(name) = named.filter(|name| *name != "root") {
        return files::account(root, name, path);
    }
    let passwd = files::read(root, "etc/passwd")?;
    let at_home = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let home = fields.get(5).filter(|home| home.len() > 1 && Path::new(home).parent().is_some())?;
        (fields[2].parse::<u32>().ok()? >= 1000 && path.starts_with(home)).then(|| fields[0].to_owned())
    });
    files::account(root, at_home.as_deref().unwrap_or("root"), path)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;
    use crate::host::root::Links;

    const STACK: &str = "schema = 1\nname = \"p\"\n[[agent]]\nname = \"a\"\ninstructions = \"/home/agent/.a/A.md\"\n\
        mcp = { path = \"/home/agent/.a.json\", format = \"mcp-servers\", owner = \"agent\" }\nskills = \"/home/agent/.a/skills\"\n\
        [[agent]]\nname = \"b\"\ninstructions = \"/etc/b/B.md\"\n\
        [[mcp]]\nname = \"memory\"\nargv = [\"m\"]\n[[skills]]\nname = \"s\"\npath = \"/usr/share/s\"\n\
        [[skills]]\nname = \"m\"\npath = \"/usr/share/many\"\n";

    #[test]
    fn every_agent_is_told_in_its_own_place_as_its_own_user() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &str| tree.path().join(path);
        fs::create_dir_all(at("etc")).unwrap();
        fs::create_dir_all(at("home/agent")).unwrap();
        fs::write(at("etc/passwd"), "root:x:0:0::/root:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/sh\n")
            .unwrap();
        fs::write(at("etc/group"), "").unwrap();
        for skill in ["tdd", "review"] {
            fs::create_dir_all(at(&format!("usr/share/many/{skill}"))).unwrap();
            fs::write(at(&format!("usr/share/many/{skill}/SKILL.md")), "").unwrap();
        }
        fs::create_dir_all(at("usr/share/many/assets")).unwrap();
        fs::write(at("home/agent/.a.json"), "{\"theme\": \"dark\"}").unwrap();
        let layer: Layer = toml::from_str(STACK).unwrap();
        let root = Root::open(tree.path(), Links::InTree).unwrap();
        let all = || layer.agent.iter().try_for_each(|agent| one(&layer, agent, &root, 5)).unwrap();
        all();
        let note = fs::metadata(at("home/agent/.a/A.md")).unwrap();
        assert_eq!((note.uid(), note.mtime()), (1000, 5));
        assert_eq!(fs::metadata(at("home/agent/.a")).unwrap().uid(), 1000);
        assert_eq!(fs::metadata(at("etc/b/B.md")).unwrap().uid(), 0);
        assert_eq!(fs::read_link(at("home/agent/.a/skills/s")).unwrap(), Path::new("/usr/share/s"));
        let skill = |name: &str| fs::read_link(at(&format!("home/agent/.a/skills/{name}")));
        assert_eq!(skill("tdd").unwrap(), Path::new("/usr/share/many/tdd"));
        assert!(skill("review").is_ok() && skill("m").is_err() && skill("assets").is_err());
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(at("home/agent/.a.json")).unwrap()).unwrap();
        assert_eq!((&json["theme"], &json["mcpServers"]["memory"]["command"]), (&"dark".into(), &"m".into()));
        let first = fs::read(at("home/agent/.a/A.md")).unwrap();
        all();
        assert_eq!(fs::read(at("home/agent/.a/A.md")).unwrap(), first, "a second time it is there twice");
    }
}
