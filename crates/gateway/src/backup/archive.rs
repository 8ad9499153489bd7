//! The archive itself: a gzipped tar of plain files below one directory, the manifest first, the
//! checksums of everything last.
//!
//! Whoever reads one takes nothing for granted: only plain files, only names below that directory,
//! each once, each with the checksum that the list says, and nothing that the list does not have.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use clawgate_core::proof;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{BackupError, Manifest, SCHEMA_VERSION, io_error};

/// Name of the first entry.
pub(super) const MANIFEST: &str = "manifest.json";
/// Name of the last.
pub(super) const CHECKSUMS: &str = "checksums.json";
/// Bytes of either at most.
const LISTS_MAX: u64 = 256 * 1024 * 1024;

/// Size and SHA-256 of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    bytes: u64,
    sha256: String,
}

/// Passes bytes on and keeps their checksum.
struct Summing<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R> Summing<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    fn sum(self) -> Sum {
        Sum {
            bytes: self.bytes,
            sha256: proof::hex(&self.hash.finalize()),
        }
    }
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += u64::try_from(read).unwrap_or_default();
        Ok(read)
    }
}

/// Writes an archive from its beginning to its end.
pub(super) struct Writer<'a> {
    tar: tar::Builder<GzEncoder<BufWriter<&'a File>>>,
    sums: BTreeMap<String, Sum>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        let gzip = GzEncoder::new(BufWriter::new(file), Compression::fast());
        Self {
            tar: tar::Builder::new(gzip),
            sums: BTreeMap::new(),
        }
    }

    /// An entry of these bytes.
    pub(super) fn text(&mut self, place: &str, text: &[u8]) -> io::Result<()> {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.append(place, text, length, 0o600, 0)
    }

    /// An entry of a file as long as it is now; what is appended meanwhile is not in it.
    pub(super) fn file(&mut self, place: &str, path: &Path) -> io::Result<()> {
        let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = File::options()
            .read(true)
            .custom_flags(nofollow)
            .open(path)?;
        let meta = file.metadata()?;
        let modified = u64::try_from(meta.mtime()).unwrap_or_default();
        self.append(
            place,
            file.take(meta.len()),
            meta.len(),
            meta.mode() & 0o777,
            modified,
        )
    }

    fn append(
        &mut self,
        place: &str,
        bytes: impl Read,
        length: u64,
        mode: u32,
        modified: u64,
    ) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(length);
        header.set_mode(mode);
        header.set_mtime(modified);
        let mut bytes = Summing::new(bytes);
        self.tar.append_data(&mut header, place, &mut bytes)?;
        let sum = bytes.sum();
        if sum.bytes != length {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.sums.insert(place.to_owned(), sum);
        Ok(())
    }

    /// The checksums, and the end.
    pub(super) fn finish(mut self, place: &str) -> io::Result<()> {
        let sums = serde_json::to_vec_pretty(&self.sums).expect("checksums are plain data");
        self.text(place, &sums)?;
        self.tar.into_inner()?.finish()?.flush()
    }
}

/// One entry on its way out of an archive.
pub(super) struct Entry<'a> {
    /// Its name, below the archive's directory.
    pub path: &'a str,
    /// Its mode's last nine bits.
    pub mode: u32,
    /// What it holds. The one who takes it reads all of it.
    pub bytes: &'a mut dyn Read,
}

/// What a good archive holds.
pub(super) struct Contents {
    pub manifest: Manifest,
    pub entries: usize,
}

/// The manifest alone, unverified.
pub(super) fn beginning(path: &Path) -> Result<Manifest, BackupError> {
    let mut archive = open(path)?;
    let wrong = |why: String| not_a_backup(path, &why);
    let mut entries = archive.entries().map_err(|e| wrong(e.to_string()))?;
    let first = entries
        .next()
        .ok_or_else(|| wrong("it is empty".to_owned()))?;
    let mut first = first.map_err(|error| wrong(error.to_string()))?;
    let name = name_of(&first).map_err(wrong)?;
    read_manifest(path, &name, &mut first)
}

/// Reads an archive to its end and gives every file of it to `take`, before it is known whether
/// the archive is good.
pub(super) fn read(
    path: &Path,
    mut take: impl FnMut(&Manifest, &mut Entry<'_>) -> io::Result<()>,
) -> Result<Contents, BackupError> {
    let mut archive = open(path)?;
    let damaged = |why: String| BackupError::Damaged {
        path: path.to_owned(),
        why,
    };
    let mut known: Option<Manifest> = None;
    let mut listed: Option<BTreeMap<String, Sum>> = None;
    let mut seen: BTreeMap<String, Sum> = BTreeMap::new();
    for entry in archive.entries().map_err(|e| damaged(e.to_string()))? {
        let mut entry = match (entry, &known) {
            (Ok(entry), _) => entry,
            (Err(error), None) => return Err(not_a_backup(path, &error.to_string())),
            (Err(error), Some(_)) => return Err(damaged(error.to_string())),
        };
        let mode = entry.header().mode().unwrap_or(0o600) & 0o777;
        let Some(manifest) = &known else {
            let name = name_of(&entry).map_err(|why| not_a_backup(path, &why))?;
            let mut bytes = Summing::new(&mut entry);
            known = Some(read_manifest(path, &name, &mut bytes)?);
            seen.insert(name, bytes.sum());
            continue;
        };
        let name = name_of(&entry).map_err(damaged)?;
        let root = &manifest.archive_root;
        let below = name.strip_prefix(root.as_str());
        let Some(below) = below.and_then(|below| below.strip_prefix('/')) else {
            return Err(damaged(format!("{name:?} is not below {root}")));
        };
        if listed.is_some() {
            return Err(damaged(format!("{name:?} comes after the checksums")));
        }
        if seen.contains_key(&name) {
            return Err(damaged(format!("{name:?} is there twice")));
        }
        if below == CHECKSUMS {
            let mut text = Vec::new();
            (&mut entry)
                .take(LISTS_MAX)
                .read_to_end(&mut text)
                .map_err(|error| damaged(error.to_string()))?;
            let sums = serde_json::from_slice(&text);
            listed = Some(sums.map_err(|error| damaged(format!("the checksums: {error}")))?);
            continue;
        }
        let mut bytes = Summing::new(&mut entry);
        let mut one = Entry {
            path: &name,
            mode,
            bytes: &mut bytes,
        };
        take(manifest, &mut one).map_err(|error| damaged(format!("{name:?}: {error}")))?;
        seen.insert(name, bytes.sum());
    }
    // The checksum of the compression stands behind everything.
    io::copy(&mut archive.into_inner(), &mut io::sink())
        .map_err(|error| damaged(error.to_string()))?;
    let manifest = known.ok_or_else(|| not_a_backup(path, "it is empty"))?;
    let Some(listed) = listed else {
        return Err(damaged("its end is missing".to_owned()));
    };
    for (name, sum) in &seen {
        match listed.get(name) {
            None => return Err(damaged(format!("{name:?} is not in the checksums"))),
            Some(wanted) if wanted != sum => {
                return Err(damaged(format!("{name:?} has another checksum")));
            }
            Some(_) => {}
        }
    }
    if let Some(name) = listed.keys().find(|name| !seen.contains_key(*name)) {
        return Err(damaged(format!("{name:?} is missing")));
    }
    if let Some(database) = &manifest.database
        && !seen.contains_key(database)
    {
        return Err(damaged("its database is missing".to_owned()));
    }
    Ok(Contents {
        entries: seen.len() + 1,
        manifest,
    })
}

fn open(path: &Path) -> Result<tar::Archive<GzDecoder<BufReader<File>>>, BackupError> {
    let file = File::open(path).map_err(io_error("opening", path))?;
    Ok(tar::Archive::new(GzDecoder::new(BufReader::new(file))))
}

fn not_a_backup(path: &Path, why: &str) -> BackupError {
    BackupError::NotABackup {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

/// The name of a plain file that leads nowhere but down.
fn name_of(entry: &tar::Entry<'_, impl Read>) -> Result<String, String> {
    let bytes = entry.path_bytes();
    let name = std::str::from_utf8(&bytes).map_err(|_| "a name in it is no text".to_owned())?;
    let kind = entry.header().entry_type();
    if kind != tar::EntryType::Regular {
        return Err(format!("{name:?} is no plain file"));
    }
    let leads_down = !name.contains('\0')
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..");
    if leads_down {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} leads out of it"))
    }
}

fn read_manifest(path: &Path, name: &str, bytes: &mut impl Read) -> Result<Manifest, BackupError> {
    let wrong = |why: &str| not_a_backup(path, why);
    let Some((root, MANIFEST)) = name.split_once('/') else {
        return Err(wrong("it does not begin with a manifest"));
    };
    let mut text = Vec::new();
    bytes
        .take(LISTS_MAX)
        .read_to_end(&mut text)
        .map_err(|error| wrong(&error.to_string()))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| wrong(&format!("its manifest: {error}")))?;
    if manifest.schema_version != SCHEMA_VERSION {
        return Err(wrong(&format!(
            "its layout is {}, known is {SCHEMA_VERSION}",
            manifest.schema_version
        )));
    }
    if manifest.archive_root != root {
        return Err(wrong("its manifest is of another archive"));
    }
    Ok(manifest)
}
