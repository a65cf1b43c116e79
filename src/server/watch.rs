//! Notices that files of the configuration have changed: they were edited, replaced by a rename, or swapped behind a
//! symbolic link, as Kubernetes does with mounted ConfigMaps and Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::warn;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::reload::{Reloader, Trigger};
use crate::config::{Config, limits};

/// Reloads the configuration when files change, until the future is dropped.
pub(super) async fn watch(reloader: Arc<Reloader>) {
    let (sender, mut events) = mpsc::channel(1);
    // Without a sender, the channel would be closed, and waiting for events would not wait.
    let _open = sender.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is also an event, and each reload reads all files. So access events do not trigger a reload.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // A full channel means that a reload is already due.
            let _ = sender.try_send(());
        }
    });
    let mut folders = match watcher {
        Ok(watcher) => Some(Folders { watcher, watched: BTreeSet::new() }),
        Err(error) => {
            let seconds = limits::WATCH_POLL.as_secs();
            warn!("the configuration files cannot be watched ({error}): they are checked every {seconds} s");
            None
        }
    };
    let mut seen = None;
    let mut next_poll = Instant::now() + limits::WATCH_POLL;
    loop {
        // A file may change after it was read and before its folder is watched. Such a change causes no event, so the
        // configuration is read again after new folders are watched.
        while let Some(folders) = &mut folders
            && folders.follow(&wanted(&reloader).await)
        {
            // Here and below, the result is not needed: `reload` reports errors in the log, in `/status` and in the
            // metrics.
            let _ = reloader.reload(Trigger::Watch).await;
            // A folder that is made again all the time must not keep the edge busy.
            tokio::time::sleep(limits::SETTLED).await;
        }
        let event = tokio::time::timeout_at(next_poll, events.recv()).await;
        if let Ok(Some(())) = event {
            let latest = Instant::now() + limits::WATCH_PATIENCE;
            while Instant::now() < latest && tokio::time::timeout(limits::SETTLED, events.recv()).await.is_ok() {}
            // Other files may be in the same folders, such as a log.
            let now = contents(&reloader).await;
            if seen.replace(now.clone()) == Some(now) {
                continue;
            }
        }
        // Not moved by other events: a broken configuration may name files that do not exist yet.
        next_poll = Instant::now() + limits::WATCH_POLL;
        let _ = reloader.reload(Trigger::Watch).await;
    }
}

/// The folders to watch: the folders of all files, the folders of the files that symbolic links lead to, and the
/// folders in which an include may find new files.
async fn wanted(reloader: &Reloader) -> BTreeSet<Folder> {
    let running = files(reloader);
    let include: Vec<PathBuf> = reloader.snapshot().config.include_folders.clone();
    // A configuration with errors also names files. A correction in one of them must be noticed.
    let broken = (!reloader.status().errors.is_empty()).then(|| reloader.path().to_owned());
    let folders = tokio::task::spawn_blocking(move || {
        let files = running.into_iter().chain(broken.iter().flat_map(|path| Config::known_files(path)));
        // Folders are watched under their real paths. A link that now leads elsewhere gives another folder.
        let places =
            files.flat_map(|file| [Some(folder(&file)), file.canonicalize().ok().map(|target| folder(&target))]);
        places
            .flatten()
            .chain(include)
            .filter_map(|folder| folder.canonicalize().ok())
            .filter_map(|folder| {
                folder.metadata().ok().filter(Metadata::is_dir).map(|metadata| (folder, metadata.ino()))
            })
            .collect()
    });
    folders.await.unwrap_or_default()
}

/// The digests of all files that belong to the configuration, as they are now.
async fn contents(reloader: &Reloader) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let files = files(reloader);
    let main = reloader.path().to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let digest = |file: &PathBuf| {
            let bytes = std::fs::read(file).ok()?;
            Some(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref().to_vec())
        };
        let all: BTreeSet<PathBuf> = files.into_iter().chain(Config::known_files(&main)).collect();
        all.into_iter().map(|file| (file.clone(), digest(&file))).collect()
    });
    read.await.unwrap_or_default()
}

/// The files of the running configuration.
fn files(reloader: &Reloader) -> Vec<PathBuf> {
    reloader.snapshot().config.files.iter().map(|file| file.path.clone()).collect()
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The real path of a folder, and its inode. A folder that was deleted and made again has another inode.
type Folder = (PathBuf, u64);

struct Folders {
    watcher: RecommendedWatcher,
    watched: BTreeSet<Folder>,
}

impl Folders {
    /// Watches exactly the folders in `wanted`. Returns true when some of them are new.
    fn follow(&mut self, wanted: &BTreeSet<Folder>) -> bool {
        for (folder, _) in self.watched.difference(wanted) {
            // An error means that the folder is gone, and its watch with it.
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
                    warn!("the folder {folder} cannot be watched ({error}): its files are checked every {seconds} s");
                }
            }
        }
        any_new
    }
}
