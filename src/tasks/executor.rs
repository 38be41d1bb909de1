//! Gives the tasks that hyper starts by itself (HTTP/2's streams) an owner.

use std::future::Future;

use super::TaskGroup;

/// See the module.
#[derive(Clone, Debug)]
pub struct Executor {
    tasks: TaskGroup,
    name: &'static str,
}

impl TaskGroup {
    /// An executor for hyper; each of its tasks serves one client and is contained.
    pub fn executor(&self, name: &'static str) -> Executor {
        Executor {
            tasks: self.clone(),
            name,
        }
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.tasks.spawn_contained(self.name, future);
    }
}
