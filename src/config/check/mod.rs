//! From files as written to one checked [`Config`].

mod api_keys;
mod assertions;
mod auth;
mod credential;
mod introspection;
mod listeners;
mod lookup;
mod material;
mod mtls;
mod outbound;
mod policy;
mod process;
mod resolver;
mod route;
mod token_grant;
mod upstream;

use std::path::{Path, PathBuf};

use self::resolver::Resolver;
use super::checked::Config;
use super::error::ConfigErrors;
use super::read::load::{load, load_text};
use super::read::problems::Problems;
use super::read::source::Source;

impl Config {
    /// Reads `path` and everything that it includes and names, and checks it.
    ///
    /// # Errors
    /// All that is wrong, each with its place and what to write instead.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::default();
        let sources = load(path, &mut problems)?;
        Self::checked(&sources, problems)
    }

    /// The same with `text` in place of what stands in `path`, which need not exist.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_text(path: &Path, text: String) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::default();
        let sources = load_text(path, text, &mut problems);
        Self::checked(&sources, problems)
    }

    fn checked(sources: &[Source], problems: Problems) -> Result<Self, ConfigErrors> {
        let mut resolver = Resolver::new(sources, problems);
        let config = resolver.resolve();
        if resolver.problems.is_empty() { Ok(config) } else { Err(resolver.problems.into_errors(sources)) }
    }

    /// The files and folders to watch when `path` does not load: those that can be known anyway.
    pub fn known_files(path: &Path) -> Vec<PathBuf> {
        let sources = load(path, &mut Problems::default()).unwrap_or_default();
        let mut files: Vec<PathBuf> = sources.into_iter().map(|source| source.path).collect();
        if files.is_empty() {
            files.push(path.to_owned());
        }
        files
    }
}

impl Resolver<'_> {
    fn resolve(&mut self) -> Config {
        for source in self.sources {
            self.materials.remember(source.path.clone(), source.text.as_bytes(), true);
        }
        let server = self.only("server", |source| source.file.server.clone()).unwrap_or_default();
        let limits = self.limits();
        let identity = self.identity();
        let sessions = self.sessions();
        let assertions = self.assertions();
        let log = self.only("log", |source| source.file.log.clone()).unwrap_or_default();
        let cache = self.cache();
        let admin = self.admin();
        let listeners = self.listeners(&admin);
        // Before all that has a URL for it.
        self.outbound = self.outbound();
        let providers = self.providers();
        let upstreams = self.upstreams();
        let routes = self.routes(&limits, &identity, assertions.as_ref());
        let outbound = std::mem::take(&mut self.outbound);
        let files = std::mem::take(&mut self.materials.files);
        let include_folders = self.sources.iter().flat_map(Source::include_folders).collect();
        Config {
            server,
            listeners,
            admin,
            limits,
            identity,
            sessions,
            assertions,
            log,
            cache,
            outbound,
            providers,
            upstreams,
            routes,
            files,
            include_folders,
        }
    }
}
