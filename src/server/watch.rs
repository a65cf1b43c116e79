//! Sees that files of the configuration have changed: edited, renamed over, or swapped behind a symbolic link, as
//! Kubernetes does with mounted ConfigMaps and Secrets.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::warn;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::reload::{Reloader, Trigger};
use crate::config::{Config, limits};

/// Reloads when files change, until dropped.
pub(super) async fn watch(reloader: Arc<Reloader>) {
    let (sender, mut events) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is an event too, and the reload itself reads them all.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Full means that a reload is due anyway.
            let _ = sender.try_send(());
        }
    });
    let mut folders = match watcher {
        Ok(watcher) => Some(Folders { watcher, watched: BTreeSet::new() }),
        Err(error) => {
            warn!("files cannot be watched ({error}); they are looked at every {} s", limits::WATCH_POLL.as_secs());
            None
        }
    };
    loop {
        // What changed between the reading of a folder's files and the beginning of its watch has made no event.
        while let Some(folders) = &mut folders
            && folders.follow(&wanted(&reloader).await)
        {
            // What went wrong is in the log, in `/status` and in the metrics, here and below.
            let _ = reloader.reload(Trigger::Watch).await;
        }
        let event = tokio::time::timeout(limits::WATCH_POLL, events.recv()).await;
        if let Ok(Some(())) = event {
            for _ in 0..limits::WATCH_POSTPONEMENTS {
                if tokio::time::timeout(limits::SETTLED, events.recv()).await.is_err() {
                    break;
                }
            }
        }
        let _ = reloader.reload(Trigger::Watch).await;
    }
}

/// The folders of all files, of those that symbolic links lead to, and those in which an include may find new ones.
async fn wanted(reloader: &Reloader) -> BTreeSet<Folder> {
    let snapshot = reloader.snapshot();
    let running: Vec<PathBuf> = snapshot.config.files.iter().map(|file| file.path.clone()).collect();
    let include: Vec<PathBuf> = snapshot.config.include_folders.clone();
    // A configuration that does not load names files too: mending one of them must be seen.
    let broken = (!reloader.status().errors.is_empty()).then(|| reloader.path().to_owned());
    let folders = tokio::task::spawn_blocking(move || {
        let files = running.into_iter().chain(broken.iter().flat_map(|path| Config::known_files(path)));
        // Folders are watched under their real names: a link that now leads elsewhere is another folder.
        let places =
            files.flat_map(|file| [Some(folder(&file)), file.canonicalize().ok().map(|target| folder(&target))]);
        places
            .flatten()
            .chain(include)
            .filter_map(|folder| folder.canonicalize().ok())
            .filter_map(|folder| folder.metadata().ok().filter(Metadata::is_dir).map(|is| (folder, is.ino())))
            .collect()
    });
    folders.await.unwrap_or_default()
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A folder under its real name, with its inode: one that is made anew under the same name is another.
type Folder = (PathBuf, u64);

struct Folders {
    watcher: RecommendedWatcher,
    watched: BTreeSet<Folder>,
}

impl Folders {
    /// Watches exactly these. True when there are new ones among them.
    fn follow(&mut self, wanted: &BTreeSet<Folder>) -> bool {
        for (folder, _) in self.watched.difference(wanted) {
            // It may be gone, and its watch with it.
            let _ = self.watcher.unwatch(folder);
        }
        let known = std::mem::take(&mut self.watched);
        let mut any_new = false;
        for folder in wanted {
            let is_new = !known.contains(folder);
            match if is_new { self.watcher.watch(&folder.0, RecursiveMode::NonRecursive) } else { Ok(()) } {
                Ok(()) => {
                    any_new |= is_new;
                    self.watched.insert(folder.clone());
                }
                Err(error) => {
                    let (folder, seconds) = (folder.0.display(), limits::WATCH_POLL.as_secs());
                    warn!("{folder} cannot be watched ({error}); it is looked at every {seconds} s");
                }
            }
        }
        any_new
    }
}
