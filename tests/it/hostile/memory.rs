//! Memory of all kinds: linear, tables, stacks, and what the host keeps for the guest.

use wasmorch::runtime::spec::ExitReason;

use super::arena::Arena;
use super::attacks;
use super::guests::core;
use crate::runtime_pods::guests::{self, HOG};

async fn check_killed(arena: &Arena, what: &str, text: &str) {
    let (exit, stats) = arena.run(text).await;
    assert_eq!(
        (exit.code, exit.reason),
        (137, ExitReason::OomKilled),
        "{what}: {exit:?}"
    );
    assert!(
        exit.message.starts_with("memory limit 256Mi: "),
        "{what}: {exit:?}"
    );
    assert!(
        stats.refused.memory > 0 && stats.memory_peak_bytes <= 256 << 20,
        "{what}: {stats:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_of_memory_and_tables_end_at_the_limit() {
    let arena = Arena::new().await;
    check_killed(&arena, "grow", &guests::command(HOG)).await;
    check_killed(&arena, "touch", &attacks::memory_bomb()).await;
    check_killed(&arena, "table", &attacks::table_bomb()).await;
    let many = "(memory $a 1) (memory $b 1) (memory $c 1)
      (func (export \"_start\") (loop $l
        (br_if $l (i32.ne (memory.grow $a (i32.const 16)) (i32.const -1)))
        (br_if $l (i32.ne (memory.grow $b (i32.const 16)) (i32.const -1)))
        (br_if $l (i32.ne (memory.grow $c (i32.const 16)) (i32.const -1))))
        unreachable)";
    check_killed(&arena, "many", &core(&[], 1, many)).await;
    check_killed(
        &arena,
        "at once",
        &core(&[], 65536, "(func (export \"_start\"))"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recursion_ends_at_the_stack() {
    let arena = Arena::new().await;
    let deep = "(func $deep (param i64) (result i64)
        (i64.add (local.get 0) (call $deep (i64.add (local.get 0) (i64.const 1)))))
      (func (export \"_start\") (drop (call $deep (i64.const 0))))";
    let (exit, _) = arena.run(&core(&[], 1, deep)).await;
    assert_eq!((exit.code, exit.reason), (139, ExitReason::Error));
    assert!(exit.message.contains("stack exhausted"), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_the_host_keeps_are_the_guests_memory() {
    let arena = Arena::new().await;
    check_killed(&arena, "fields", &attacks::headers()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_set_of_headers_ends_its_guest_at_what_it_may_hold() {
    let arena = Arena::new().await;
    let (exit, stats) = arena.run(&attacks::full_fields()).await;
    assert_eq!((exit.code, exit.reason), (134, ExitReason::Error));
    assert!(
        exit.message.contains("total size of fields exceeds limit"),
        "{exit:?}"
    );
    assert_eq!(stats.refused.memory, 0, "{stats:?}");
}
