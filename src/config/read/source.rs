//! A configuration file and what was read from it.

use std::path::{Path, PathBuf};

use super::left_out::LeftOut;
use crate::config::text::tree::Node;
use crate::config::written::file::File;

/// One configuration file that was read.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) tree: Node,
    pub(crate) file: File,
    pub(crate) left_out: LeftOut,
}

impl Source {
    /// The folders in which the `include` entries of this file look for files. The path of a pattern ends before its
    /// first part that has a wildcard.
    pub(crate) fn include_folders(&self) -> impl Iterator<Item = PathBuf> {
        let folder = self.path.parent().map(Path::to_owned).unwrap_or_default();
        self.file.include.iter().map(move |pattern| {
            let fixed = Path::new(pattern)
                .components()
                .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']));
            let path = folder.join(fixed.collect::<PathBuf>());
            if pattern.contains(['*', '?', '[']) { path } else { path.parent().map(Path::to_owned).unwrap_or_default() }
        })
    }
}
