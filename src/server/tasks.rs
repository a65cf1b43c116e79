//! The background tasks of a snapshot: health checks, name resolution, key sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::auth::Provider;
use crate::proxy::Snapshot;
use crate::upstream::Upstream;

/// A background task. It is aborted when this handle is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One task for each upstream and provider of the running snapshot.
#[derive(Default)]
pub(super) struct Tasks {
    upstreams: BTreeMap<Arc<str>, (Arc<Upstream>, Task)>,
    providers: BTreeMap<Arc<str>, (Arc<Provider>, Task)>,
}

impl Tasks {
    /// Ends the tasks of upstreams and providers that are gone or replaced, and starts tasks for new ones.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        update(&mut self.upstreams, &snapshot.upstreams, |upstream| tokio::spawn(async move { upstream.run().await }));
        update(&mut self.providers, &snapshot.providers, |provider| tokio::spawn(async move { provider.run().await }));
    }
}

fn update<T>(
    running: &mut BTreeMap<Arc<str>, (Arc<T>, Task)>,
    wanted: &BTreeMap<Arc<str>, Arc<T>>,
    start: impl Fn(Arc<T>) -> tokio::task::JoinHandle<()>,
) {
    running.retain(|name, (item, _)| wanted.get(name).is_some_and(|wanted| Arc::ptr_eq(wanted, item)));
    for (name, item) in wanted {
        running
            .entry(Arc::clone(name))
            .or_insert_with(|| (Arc::clone(item), Task(start(Arc::clone(item)).abort_handle())));
    }
}
