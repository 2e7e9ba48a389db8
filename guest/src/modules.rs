//! Modules of a kernel, in loading order, for an initramfs.
//!
//! The dependencies are read from the modules themselves, which hold the string `depends=a,b`: a kernel that was built or
//! unpacked and not installed has no `modules.dep`. Compressed modules are decompressed here, by the host's `xz`, `zstd`
//! or `gzip`: a kernel decompresses them only if it is built with `CONFIG_MODULE_DECOMPRESS`.
//! Soft dependencies (`modprobe.d(5)`, `softdep`) are not loaded: name them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use qemu_machine_blocking::UntrustedText;

/// The extensions of modules, each with the program that decompresses it.
const COMPRESSED: [(&str, &str); 3] = [("ko.xz", "xz"), ("ko.zst", "zstd"), ("ko.gz", "gzip")];

/// The directory whose modules are preferred to others of the same name: `depmod` searches `updates built-in`, where
/// `built-in` is the rest of the tree (`depmod.d(5)`, `search`). Another order in `/etc/depmod.d` is not read.
const UPDATES: &str = "updates";

/// The most directories below each other: the kernel's source tree has nine.
const DEEPEST: usize = 16;

/// The modules of one kernel: a directory such as `/lib/modules/6.1.0`.
#[derive(Clone, Debug)]
pub struct Modules {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

/// A module to load.
#[derive(Clone, PartialEq, Eq)]
pub struct Module {
    /// The name, with underscores.
    pub name: String,
    /// The file, not compressed.
    pub content: Vec<u8>,
}

/// Prints the name and the size: the content has no printable form.
impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Module({:?}, {} bytes)", self.name, self.content.len())
    }
}

/// The reason why modules cannot be collected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// Neither a file of the tree nor built in.
    #[error("the kernel has no module {0}, and it is not built in")]
    Unknown(UntrustedText),
    /// The module, or the tree, cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file or directory.
        path: UntrustedText,
        /// The error of the system.
        error: io::Error,
    },
    /// The program that decompresses the module is missing, or failed.
    #[error("cannot decompress {path} with `{program}`: {why}")]
    Compressed {
        /// The file.
        path: UntrustedText,
        /// The program.
        program: &'static str,
        /// The problem.
        why: UntrustedText,
    },
    /// The file is not a module.
    #[error("{0} is not a kernel module: it does not list its dependencies")]
    NotAModule(UntrustedText),
}

impl Modules {
    /// Reads the tree of one kernel. Of several modules with one name, it takes that below `updates`, as `depmod` does by
    /// default, and otherwise that whose path is the last in alphabetical order.
    ///
    /// # Errors
    ///
    /// [`ModuleError::Unreadable`].
    pub fn read(tree: &Path) -> Result<Self, ModuleError> {
        let mut files = BTreeMap::new();
        let mut add = |directory: &Path| match collect(directory, DEEPEST, &mut files) {
            Err(error) => Err(ModuleError::Unreadable { path: shown(directory), error }),
            Ok(()) => Ok(()),
        };
        add(tree)?;
        // These replace the others of the same name.
        let updates = tree.join(UPDATES);
        if updates.is_dir() {
            add(&updates)?;
        }
        // A kernel without this list has everything in files, or nothing.
        let list = fs::read_to_string(tree.join("modules.builtin")).unwrap_or_default();
        let built_in = list.lines().filter_map(|line| name_of(Path::new(line))).collect();
        Ok(Self { files, built_in })
    }

    /// Reports whether the kernel has this module, as a file or built in.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let name = normal(name);
        self.files.contains_key(&name) || self.built_in.contains(&name)
    }

    /// Returns these modules, each after those that it depends on, and each once. Modules that are built in are left out.
    ///
    /// # Errors
    ///
    /// [`ModuleError`].
    pub fn in_order<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Module>, ModuleError> {
        let (mut loaded, mut visited) = (Vec::new(), BTreeSet::new());
        for name in names {
            self.add(name, &mut visited, &mut loaded)?;
        }
        Ok(loaded)
    }

    /// Adds a module after its dependencies. A cycle ends, because each name is visited once.
    fn add(&self, name: &str, visited: &mut BTreeSet<String>, loaded: &mut Vec<Module>) -> Result<(), ModuleError> {
        let name = normal(name);
        if self.built_in.contains(&name) || !visited.insert(name.clone()) {
            return Ok(());
        }
        let path = self.files.get(&name).ok_or_else(|| ModuleError::Unknown(name.as_str().into()))?;
        let content = content(path)?;
        for needed in depends(&content).ok_or_else(|| ModuleError::NotAModule(shown(path)))? {
            self.add(&needed, visited, loaded)?;
        }
        loaded.push(Module { name, content });
        Ok(())
    }
}

/// Adds the modules below a directory by their names. Links are not followed: `build` and `source` point to the whole
/// source of the kernel.
fn collect(directory: &Path, depth: usize, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if depth > 0 {
                collect(&path, depth - 1, files)?;
            }
        } else if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// Returns the name of the module in a file. `None` means that the file is not a module.
fn name_of(path: &Path) -> Option<String> {
    let (stem, extension) = path.file_name()?.to_str()?.split_once('.')?;
    let is_module = extension == "ko" || COMPRESSED.iter().any(|(known, _)| extension == *known);
    is_module.then(|| normal(stem))
}

/// Returns the name of a module as the kernel writes it. Files have dashes and underscores (`modprobe(8)`).
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn content(path: &Path) -> Result<Vec<u8>, ModuleError> {
    let name = path.to_string_lossy();
    match COMPRESSED.iter().find(|(extension, _)| name.ends_with(extension)) {
        None => fs::read(path).map_err(|error| ModuleError::Unreadable { path: shown(path), error }),
        Some((_, program)) => decompressed(path, program),
    }
}

fn decompressed(path: &Path, program: &'static str) -> Result<Vec<u8>, ModuleError> {
    let failed = |why: &str| ModuleError::Compressed { path: shown(path), program, why: why.trim_end().into() };
    let mut command = Command::new(program);
    let output = command.arg("-dc").arg(path).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(&error.to_string()))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(output.stdout)
}

/// Returns the dependencies of a module: it holds the string `depends=a,b` between NUL bytes (the kernel's
/// `scripts/mod/modpost.c`, `add_depends`). `None` means that there is no such string.
fn depends(module: &[u8]) -> Option<Vec<String>> {
    let mut fields = module.split(|byte| *byte == 0);
    let list = fields.find_map(|field| field.strip_prefix(b"depends="))?;
    let list = String::from_utf8_lossy(list);
    Some(list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn shown(path: &Path) -> UntrustedText {
    UntrustedText::from_utf8_lossy(path.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use qemu_machine_tests::leak_check::Scratch;

    use super::Modules;

    #[test]
    fn a_module_below_updates_is_preferred() {
        let scratch = Scratch::create();
        let tree = scratch.path().join("6.1.0");
        for (directory, content) in [("extra", "last"), ("kernel/drivers", "tree"), ("updates/dkms", "new")] {
            fs::create_dir_all(tree.join(directory)).unwrap();
            fs::write(tree.join(directory).join("edu.ko"), format!("\0depends=\0{content}")).unwrap();
            let modules = Modules::read(&tree).unwrap().in_order(["edu"]).unwrap();
            assert!(modules[0].content.ends_with(content.as_bytes()), "{directory}: {modules:?}");
        }
        // Its name comes after that of `updates`.
        fs::create_dir_all(tree.join("weak-updates")).unwrap();
        fs::write(tree.join("weak-updates/edu.ko"), "\0depends=\0weak").unwrap();
        assert!(Modules::read(&tree).unwrap().in_order(["edu"]).unwrap()[0].content.ends_with(b"new"));
        fs::remove_dir_all(tree).unwrap();
    }
}
