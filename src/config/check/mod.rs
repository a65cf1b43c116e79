//! Checks the files as written, and makes one checked [`Config`] of them.

mod api_keys;
mod assertions;
mod auth;
mod credential;
mod gateway;
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

use self::resolver::{Resolver, Sections};
use super::checked::Config;
use super::error::ConfigErrors;
use super::read::load::{load, load_text};
use super::read::problems::Problems;
use super::read::source::Source;

impl Config {
    /// Reads the configuration file `path` with all files that it includes or names, and checks the result.
    ///
    /// # Errors
    /// All errors of the configuration, each with its place and what to write instead.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::default();
        let sources = load(path, &mut problems)?;
        Self::checked(&sources, problems)
    }

    /// As [`Self::load`], with `text` as the content of `path`. The file `path` need not exist.
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

    /// The files to watch when the configuration at `path` has errors: `path` itself, and the files that it includes as
    /// far as they can be read.
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
        // This comes before `providers` and `routes`, because their URLs are checked against it.
        self.outbound = self.outbound();
        let providers = self.providers();
        let upstreams = self.upstreams();
        let routes = self.routes(Sections { limits: &limits, identity: &identity, assertions: assertions.as_ref() });
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
