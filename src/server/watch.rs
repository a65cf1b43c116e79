//! Sees that files of the configuration have changed: edited, renamed over, or swapped behind a symbolic link, as
//! Kubernetes does with mounted ConfigMaps and Secrets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::reload::{Reloader, Trigger};
use crate::config::{Config, limits};

/// Also without any event the files are looked at this often: network file systems send none.
const POLL: Duration = Duration::from_secs(30);
/// A folder that is written to all the time is read nevertheless, after this many quiet periods would have fit.
const MOST_POSTPONEMENTS: u32 = 20;

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
            warn!("files cannot be watched ({error}); they are looked at every {} s", POLL.as_secs());
            None
        }
    };
    loop {
        if let Some(folders) = &mut folders {
            folders.follow(&wanted(&reloader).await);
        }
        let event = tokio::time::timeout(POLL, events.recv()).await;
        if let Ok(Some(())) = event {
            for _ in 0..MOST_POSTPONEMENTS {
                if tokio::time::timeout(limits::SETTLED, events.recv()).await.is_err() {
                    break;
                }
            }
        }
        // What went wrong is in the log, in `/status` and in the metrics.
        let _ = reloader.reload(Trigger::Watch).await;
    }
}

/// The folders of all files, of those that symbolic links lead to, and those in which an include may find new ones.
async fn wanted(reloader: &Reloader) -> BTreeSet<PathBuf> {
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
            .filter(|folder| folder.is_dir())
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

struct Folders {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

impl Folders {
    fn follow(&mut self, wanted: &BTreeSet<PathBuf>) {
        for folder in self.watched.difference(wanted) {
            // It may be gone, and its watch with it.
            let _ = self.watcher.unwatch(folder);
        }
        let mut watched = BTreeSet::new();
        for folder in wanted {
            let known = self.watched.contains(folder);
            match if known { Ok(()) } else { self.watcher.watch(folder, RecursiveMode::NonRecursive) } {
                Ok(()) => drop(watched.insert(folder.clone())),
                Err(error) => warn!(
                    "{} cannot be watched ({error}); it is looked at every {} s",
                    folder.display(),
                    POLL.as_secs()
                ),
            }
        }
        self.watched = watched;
    }
}
