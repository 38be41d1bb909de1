//! CronJob: a job at each time of its schedule.
//!
//! A look finds the latest time that has passed since the last job was started; what lies before it
//! is missed and not made up for. The job is named after that time, so that two looks at the same
//! time make one job.

mod plan;

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJob, Job};

use super::events::{Notice, Recorder, reference};
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing, path};
use crate::api::owner;
use crate::errors;
use crate::registry::{self, Api, DeleteOptions, Propagation};

use plan::Plan;

const COMPONENT: &str = "cronjob-controller";

struct CronJobs {
    ctx: Context,
    api: Api<CronJob>,
    jobs: Api<Job>,
    recorder: Recorder,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(CronJobs {
        ctx: ctx.clone(),
        api: ctx.api(COMPONENT),
        jobs: ctx.api(COMPONENT),
        recorder: ctx.recorder(COMPONENT),
    });
    let controller = Controller::new("cronjob", ctx);
    controller.root(&mut sources.cron_jobs, this.api.clone());
    controller.on(&mut sources.jobs, |job: &Job| {
        let owner = Key::of_controller(&job.metadata, "CronJob");
        owner.into_iter().collect()
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

impl CronJobs {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.api.try_get(&key.namespace, &key.name);
        let Some(cron_job) = found.map_err(doing("get", key.to_string()))? else {
            return Ok(Outcome::Done);
        };
        let meta = &cron_job.metadata;
        let uid = meta.uid.as_deref().unwrap_or_default();
        let all = self
            .jobs
            .list_controlled(&key.namespace, "CronJob", &key.name);
        let mut jobs = all.map_err(doing("list the jobs of", path(meta)))?;
        jobs.retain(|job| owner::is_controlled_by(&job.metadata, uid));
        let plan = plan::plan(&cron_job, &jobs, self.ctx.clock.now())?;
        self.apply(&cron_job, plan).await
    }

    async fn apply(&self, cron_job: &CronJob, plan: Plan) -> Result<Outcome, Error> {
        let meta = &cron_job.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        for notice in plan.notices {
            self.recorder.event(cron_job, notice);
        }
        for job in &plan.delete {
            self.delete(cron_job, job).await?;
        }
        let mut status = plan.status;
        if let Some(wanted) = &plan.start {
            let name = wanted.metadata.name.clone().unwrap_or_default();
            let started = match self.jobs.create(namespace, wanted).await {
                Ok(job) => {
                    let message = format!("Created job {name}");
                    self.recorder
                        .event(cron_job, Notice::normal("SuccessfulCreate", message));
                    job
                }
                // An earlier look has made it and could not write that down.
                Err(registry::Error::AlreadyExists { .. }) => self
                    .jobs
                    .get(namespace, &name)
                    .map_err(doing("get", format!("{namespace}/{name}")))?,
                Err(error) => {
                    let message = format!("Error creating job: {}", errors::chain(&error));
                    self.recorder
                        .event(cron_job, Notice::warning("FailedCreate", message));
                    return Err(doing("create a job of", path(meta))(error));
                }
            };
            if owner::is_controlled_by(&started.metadata, meta.uid.as_deref().unwrap_or_default())
                && crate::api::job::finished(&started).is_none()
            {
                let reference = reference(started.as_ref());
                let active = status.active.get_or_insert_default();
                active.retain(|one| one.uid != reference.uid);
                active.push(reference);
            }
        }
        if cron_job.status.as_ref() != Some(&status) {
            let mut updated = cron_job.clone();
            updated.status = Some(status);
            self.api
                .update_status(namespace, &updated)
                .await
                .map_err(doing("write the status of", path(meta)))?;
        }
        Ok(Outcome::after(plan.look_again))
    }

    async fn delete(&self, cron_job: &CronJob, job: &Job) -> Result<(), Error> {
        let meta = &job.metadata;
        let options = DeleteOptions {
            uid: meta.uid.clone(),
            propagation_policy: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        match self.jobs.delete(namespace, name, &options).await {
            Ok(()) => {
                let message = format!("Deleted job {name}");
                self.recorder
                    .event(cron_job, Notice::normal("SuccessfulDelete", message));
                Ok(())
            }
            Err(registry::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(doing("delete", path(meta))(error)),
        }
    }
}
