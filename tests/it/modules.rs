//! The blob store with its leases, and uploads cut short.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use wasmorch::api::image::Digest;
use wasmorch::modules::blobs::Inspected;
use wasmorch::modules::{Blobs, Refusal};

const LIMIT: u64 = 1 << 20;

fn command() -> Vec<u8> {
    wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap()
}

async fn upload(blobs: &Blobs, bytes: &[u8]) -> Result<Inspected, Refusal> {
    let mut upload = blobs.upload().await.unwrap();
    for chunk in bytes.chunks(16) {
        upload.write(chunk).await.unwrap()?;
    }
    upload.finish().await.unwrap()
}

fn files(directory: &std::path::Path) -> usize {
    std::fs::read_dir(directory.join("sha256")).unwrap().count()
}

#[tokio::test]
async fn equal_bytes_are_stored_once_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(directory.path(), LIMIT).unwrap();
    let bytes = command();
    for _ in 0..2 {
        let inspected = upload(&blobs, &bytes).await.unwrap();
        assert_eq!(inspected.digest, Digest::of(&bytes));
        inspected.place().await.unwrap().keep();
    }
    assert_eq!(files(directory.path()), 1);
    let (mut file, size) = blobs.read(&Digest::of(&bytes)).await.unwrap().unwrap();
    assert_eq!(size, bytes.len() as u64);
    let mut read = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut file, &mut read)
        .await
        .unwrap();
    assert_eq!(read, bytes);
    assert!(blobs.read(&Digest::of(b"other")).await.unwrap().is_none());
}

#[tokio::test]
async fn refused_and_abandoned_uploads_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(directory.path(), LIMIT).unwrap();
    let too_large = vec![0; LIMIT as usize + 1];
    let cases: [(&[u8], &str); 4] = [
        (b"<!DOCTYPE html><html></html>", "W0104"),
        (b"", "W0104"),
        (&command()[..12], "W0109"),
        (&too_large, "W0104"),
    ];
    for (bytes, code) in cases {
        let refusal = upload(&blobs, bytes).await.err().unwrap();
        assert_eq!(refusal.code(), code);
    }
    let mut wasm = command();
    wasm.resize(LIMIT as usize + 1, 0);
    assert_eq!(
        upload(&blobs, &wasm).await.err().unwrap().code(),
        "W0106",
        "the limit holds without an announced size"
    );
    assert!(blobs.check_announced(Some(LIMIT + 1)).is_err());
    let mut begun = blobs.upload().await.unwrap();
    begun.write(&command()).await.unwrap().unwrap();
    drop(begun);
    drop(upload(&blobs, &command()).await.unwrap());
    assert_eq!(files(directory.path()), 0);
}

#[tokio::test]
async fn a_blob_lives_as_long_as_somebody_answers_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(directory.path(), LIMIT).unwrap();
    let digest = Digest::of(&command());
    let first = upload(&blobs, &command())
        .await
        .unwrap()
        .place()
        .await
        .unwrap();
    let second = upload(&blobs, &command())
        .await
        .unwrap()
        .place()
        .await
        .unwrap();
    drop(first);
    assert!(blobs.contains(&digest), "the second upload still holds it");
    second.keep();
    assert!(blobs.contains(&digest));

    let third = upload(&blobs, &command())
        .await
        .unwrap()
        .place()
        .await
        .unwrap();
    drop(third);
    assert!(
        blobs.contains(&digest),
        "a refused upload does not take what was there before"
    );
}

#[tokio::test]
async fn only_old_blobs_that_nothing_names_are_collected() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(directory.path(), LIMIT).unwrap();
    let digest = Digest::of(&command());
    upload(&blobs, &command())
        .await
        .unwrap()
        .place()
        .await
        .unwrap()
        .keep();
    let grace = Duration::from_hours(1);
    // The file's own time is the machine's; the collection's is given.
    let placed = std::fs::metadata(directory.path().join("sha256").join(digest.hex()))
        .unwrap()
        .modified()
        .unwrap();
    let placed = Timestamp::try_from(placed).unwrap();
    let later = placed + Duration::from_secs(3601);
    let named = BTreeSet::from([digest.clone()]);
    assert_eq!(blobs.collect(&named, grace, later).unwrap(), 0);
    assert_eq!(blobs.collect(&BTreeSet::new(), grace, placed).unwrap(), 0);
    let held = upload(&blobs, &command())
        .await
        .unwrap()
        .place()
        .await
        .unwrap();
    let much_later = later + Duration::from_hours(2);
    assert_eq!(
        blobs.collect(&BTreeSet::new(), grace, much_later).unwrap(),
        0
    );
    drop(held);
    assert_eq!(
        blobs.collect(&BTreeSet::new(), grace, much_later).unwrap(),
        1
    );
    assert!(!blobs.contains(&digest));
}

#[test]
fn a_crash_in_the_middle_of_an_upload_is_cleaned_up() {
    let directory = tempfile::tempdir().unwrap();
    Blobs::open(directory.path(), LIMIT).unwrap();
    std::fs::write(directory.path().join("sha256/.upload-x"), b"half").unwrap();
    Blobs::open(directory.path(), LIMIT).unwrap();
    assert_eq!(files(directory.path()), 0);
}
