//! What is kept of machines, and who may change them.

use super::*;
use crate::{
    error::{Cause as _, Class},
    machine::{Kind, example},
};

fn definition(name: &MachineName) -> Definition {
    Definition { backend: Kind::Direct, ..example::definition(name.as_str()) }
}

fn record(name: &MachineName) -> Record {
    Record { definition: definition(name), ..example::record(name.as_str()) }
}

fn no_undo(_: Claim) -> Result<(), Error> {
    panic!("nothing was to be undone")
}

#[test]
fn a_record_of_before_there_were_layers_is_read() {
    let name = MachineName::new("a").unwrap();
    let mut value = serde_json::to_value(record(&name)).unwrap();
    value.as_object_mut().unwrap().shift_remove("layers").unwrap();
    assert_eq!(serde_json::from_value::<Record>(value).unwrap(), record(&name));
}

#[test]
fn of_two_makers_one_wins_and_the_other_learns_who() {
    let state = tempfile::tempdir().unwrap();
    let records = Records::new(state.path());
    let name = MachineName::new("a").unwrap();
    let own = format!("process {} (create)", std::process::id());
    let claim = records.claim_new(&name, &own, no_undo).unwrap();
    let error = records.claim_new(&name, "process 2", no_undo).unwrap_err();
    assert_eq!(error.to_string(), format!("machine `a` is being made by {own}"));
    assert!(records.list().unwrap().is_empty(), "a half-made machine is listed");
    claim.commit(&record(&name)).unwrap();
    drop(claim);
    let error = records.claim_new(&name, "process 2", no_undo).unwrap_err();
    assert!(matches!(error, Error::Taken { .. }));
    assert_eq!(records.list().unwrap(), [record(&name)]);
}

#[test]
fn what_a_dead_maker_left_is_undone_by_the_next() {
    let state = tempfile::tempdir().unwrap();
    let records = Records::new(state.path());
    let name = MachineName::new("a").unwrap();
    let partial = Partial {
        definition: definition(&name),
        building: "/b".into(),
        inode: Some(7),
        volumes: Vec::new(),
        snapshots: Vec::new(),
        verb: None,
    };
    let intent = Intent::Create(partial);
    records.claim_new(&name, "dead", no_undo).unwrap().begin(&intent).unwrap();
    assert_eq!(records.unfinished().unwrap().len(), 1);
    let mut undone = None;
    let claim = records
        .claim_new::<Error>(&name, "new", |claim| {
            undone = claim.intent()?;
            claim.release()
        })
        .unwrap();
    assert_eq!(undone, Some(intent));
    assert!(records.unfinished().unwrap().is_empty(), "a held claim was taken for abandoned");
    drop(claim);
}

#[test]
fn what_a_version_of_before_left_is_read() {
    let state = tempfile::tempdir().unwrap();
    let records = Records::new(state.path());
    let name = MachineName::new("a").unwrap();
    fs::create_dir_all(records.folder(&name)).unwrap();
    let value = serde_json::json!({"definition": definition(&name), "building": "/b", "inode": 7});
    fs::write(records.folder(&name).join(PARTIAL), value.to_string()).unwrap();
    let claim = records.claim_unfinished(&name).unwrap().unwrap();
    let Some(Intent::Create(partial)) = claim.intent().unwrap() else { panic!("not read") };
    assert_eq!((partial.inode, partial.volumes), (Some(7), Vec::new()));
}

#[test]
fn a_machine_with_something_begun_is_listed_and_not_changed() {
    let state = tempfile::tempdir().unwrap();
    let records = Records::new(state.path());
    let name = MachineName::new("a").unwrap();
    records.claim_new(&name, "one", no_undo).unwrap().commit(&record(&name)).unwrap();
    assert!(records.unfinished().unwrap().is_empty());
    let (claim, _) = records.claim(&name, "two").unwrap();
    claim.begin(&Intent::Forget { folders: Vec::new() }).unwrap();
    assert!(records.unfinished().unwrap().is_empty(), "its holder lives");
    drop(claim);
    assert_eq!(records.list().unwrap().len(), 1);
    let error = records.claim(&name, "three").unwrap_err();
    assert_eq!(error.to_string(), "an earlier `snapshot remove` of it is not ended");
    let claim = records.claim_unfinished(&name).unwrap().unwrap();
    claim.end().unwrap();
    drop(claim);
    // a killed writer's file is no reason to refuse, and is swept
    fs::write(records.folder(&name).join("journal.json.new"), "{").unwrap();
    records.claim(&name, "four").unwrap();
    assert_eq!(records.unfinished().unwrap().len(), 1);
}

#[test]
fn a_folder_that_was_never_named_is_swept_unless_its_maker_lives() {
    let state = tempfile::tempdir().unwrap();
    let records = Records::new(state.path());
    let name = MachineName::new("a").unwrap();
    fs::create_dir_all(&records.folder).unwrap();
    let (path, lock) = records.new_folder(&name).unwrap().unwrap();
    records.unfinished().unwrap();
    assert!(path.exists());
    drop(lock);
    records.unfinished().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_damaged_record_is_named() {
    let state = tempfile::tempdir().unwrap();
    let records = Records::new(state.path());
    let name = MachineName::new("a").unwrap();
    fs::create_dir_all(records.folder(&name)).unwrap();
    fs::write(records.folder(&name).join(RECORD), "{").unwrap();
    let error = records.read(&name).unwrap_err();
    assert!(error.to_string().ends_with("a/machine.json is damaged"), "{error}");
    assert_eq!(error.class(), Class::State);
}
