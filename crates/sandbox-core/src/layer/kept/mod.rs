//! kept
pub mod copy; pub mod entry; pub mod pack; pub mod plan; pub mod walk;

#[cfg(test)]
mod bench {
    use super::*;
    use std::{path::Path, time::Instant};
    #[test]
    #[ignore]
    fn clone_bench() {
        let tree = std::path::PathBuf::from(std::env::var_os("TREE").unwrap());
        let work = std::path::PathBuf::from(std::env::var_os("WORK").unwrap());
        let t = Instant::now();
        let walk = walk::Walk::of(&tree).unwrap();
        eprintln!("walk {:?}", t.elapsed());
        let shared = crate::host::clonable::shares_extents(&work);
        let none = walk::Walk::default();
        let t = Instant::now();
        let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(work.join("data")).unwrap();
        let mut data = pack::Data::new(file, shared);
        let entries = pack::entries(&tree, &walk.since(&none), Some(&mut data)).unwrap();
        let len = data.finish().unwrap();
        eprintln!("pack {:?} {len} shared {shared}", t.elapsed());
        let m = entry::write(&entries);
        std::fs::write(work.join("manifest"), &m).unwrap();
        for round in 0..6 {
            let out = work.join(format!("out{round}"));
            std::fs::create_dir(&out).unwrap();
            let t = Instant::now();
            let m = std::fs::read(work.join("manifest")).unwrap();
            let entries = vec![entry::read(&m).unwrap()];
            let a = t.elapsed();
            let plan = plan::Plan::of(&entries);
            let b = t.elapsed();
            let o=||std::fs::File::open(work.join("data")).unwrap();
            let source = crate::host::large::Source::new(o(), Some(o()));
            copy::make(&plan, &[copy::Bytes::Data { source, shared }], &out).unwrap();
            let c = t.elapsed();
            rustix::fs::syncfs(std::fs::File::open(&out).unwrap()).unwrap();
            eprintln!("read {a:?} plan {b:?} make {c:?} sync {:?}", t.elapsed());
        }
        let _ = Path::new("");
    }
}
