//! The calls that callers share, from the first one's coming to the last one's answer.

use std::{sync::Arc, time::Instant};

use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{Merged, Request, Shared};
use crate::{
    batch::{self, Call, Course, Load, Part, Progress, Prompt},
    cache::{Key, StoredAnalysis},
    conversation::{Answer, Usage},
    error::Error,
    gateway::{Gateway, forgo},
    observation::Observation,
    price::Price,
    provider::Failure,
    route::{Asked, Kind, Model},
    served::Terms,
    tenant::Reservation,
};

/// A call that has ended.
struct Put {
    call: Call,
    prompt: Prompt,
    reservation: Reservation,
    /// `None` when all callers left before it was answered.
    answer: Option<Result<(Answer, Asked), Failure>>,
}

impl Gateway {
    /// Asks a language model about `part`, whose observations have these `keys`, in calls shared with others.
    ///
    /// # Errors
    /// [`Error::OverBudget`] before any call, [`Error::DeadlineExceeded`].
    pub(crate) async fn share(
        self: &Arc<Self>,
        terms: &Terms,
        model: &Model,
        question: &str,
        part: Part,
        keys: Vec<Key>,
    ) -> Result<Shared, Error> {
        let begun = Instant::now();
        let estimate = batch::alone(question, &part, self.merger.limits());
        terms.afford(model.dearest().cost(estimate))?;
        let _asking = self.meter.asking(&model.name, begun);
        let load = Load { items: keys.len(), tokens: estimate.input + estimate.output };
        let (reply, mut landed) = watch::channel(None);
        let request = Request { terms: terms.clone(), part, keys, begun, reply };
        let (gateway, model, question) = (self.clone(), model.clone(), question.to_owned());
        if terms.control.coalesce {
            let lane = self.keys.merge(&terms.tenant, &model.name, &question, &[]);
            if let Some(departure) = self.merger.come(&lane, request, load) {
                self.telemetry.spawn(async move {
                    if let Some(mut departure) = departure.await {
                        gateway.drive(&model, question, std::mem::take(&mut departure.parts)).await;
                    }
                });
            }
        } else {
            self.telemetry.spawn(async move { gateway.drive(&model, question, vec![request]).await });
        }
        match terms.bounded(landed.wait_for(Option::is_some)).await?.as_deref() {
            Ok(Some(merged)) => Ok(merged.clone()),
            // The task that drove the calls is gone: the gateway is shutting down.
            _ => Err(Error::Failed(Failure::Unreachable)),
        }
    }

    /// Drives the calls that `requests` share until each has its answer.
    async fn drive(&self, model: &Model, question: String, mut requests: Vec<Request>) {
        requests.retain(|request| !request.reply.is_closed());
        let parts = requests.iter_mut().map(|request| std::mem::take(&mut request.part)).collect();
        let mut progress = Progress::new(question, parts, self.merger.limits());
        let price = model.dearest();
        loop {
            let calls = progress.plan(|place, course, estimate| {
                requests.get(place).is_some_and(|request| request.stays(&price, course, estimate))
            });
            self.deliver(model, &progress, &requests, Course::is_done);
            if calls.is_empty() {
                break;
            }
            let mut under_way = FuturesUnordered::new();
            for call in calls {
                let reservation = match self.reserve_shared(&requests, &call, progress.likely(&call), price) {
                    Ok(reservation) => reservation,
                    Err(failure) => {
                        progress.fail(&call, &failure);
                        continue;
                    }
                };
                progress.sent(&call);
                self.meter.sent(&model.name);
                let prompt = progress.prompt(&call, rand::random());
                under_way.push(put(model, &requests, call, prompt, reservation));
            }
            while let Some(Put { call, prompt, reservation, answer }) = under_way.next().await {
                match answer {
                    Some(Ok((answer, asked))) => {
                        self.pay(model, reservation, asked.price, answer.usage);
                        progress.take(&call, &prompt, &answer);
                        progress.charge(&call, answer.usage, &asked);
                    }
                    Some(Err(failure)) => {
                        forgo(reservation, &failure);
                        progress.fail(&call, &failure);
                        let _ = self.failed(model, failure);
                    }
                    None => {}
                }
                self.deliver(model, &progress, &requests, Course::is_whole);
            }
        }
        self.deliver(model, &progress, &requests, |_| true);
    }

    /// Reserves a call for the tenant that all who share it belong to.
    fn reserve_shared(
        &self,
        requests: &[Request],
        call: &Call,
        likely: Usage,
        price: Price,
    ) -> Result<Reservation, Failure> {
        let first = call.parts().first().and_then(|part| requests.get(*part));
        let reserve = |request: &Request| {
            let (tokens, usd) = (likely.total(), price.cost(likely));
            self.tenants.reserve(&request.terms.tenant, tokens, usd).map_err(Failure::Limited)
        };
        first.map_or_else(|| Ok(Reservation::default()), reserve)
    }

    /// Stores what is known about those who are `ready`, and tells them, once.
    fn deliver(
        &self,
        model: &Model,
        progress: &Progress,
        requests: &[Request],
        ready: impl Fn(&Course) -> bool,
    ) {
        for (place, (request, course)) in requests.iter().zip(progress.courses()).enumerate() {
            if request.reply.borrow().is_some() || !ready(course) {
                continue;
            }
            if let Some(part) = progress.part(place).filter(|_| course.calls > 0) {
                self.keep_items(model, progress.question(), part, request, course);
            }
            request.reply.send_replace(Some(Arc::new(Merged {
                items: course.items.clone(),
                assessment: course.assessment.clone(),
                calls: course.calls,
                elapsed: request.begun.elapsed(),
                failure: course.failure.clone().filter(|_| !course.answered),
                upstream: course.upstream.clone(),
                attempts: course.attempts,
                declined: course.declined,
            })));
        }
    }

    /// Stores what was found in complete answers.
    fn keep_items(&self, model: &Model, question: &str, part: &Part, request: &Request, course: &Course) {
        for ((item, key), seen) in course.items.iter().zip(&request.keys).zip(&part.observations) {
            match &item.outcome {
                Ok(analysis) if item.complete => {
                    let own_cost_usd = self.own_cost(model, question, &part.context, seen);
                    let stored = StoredAnalysis { analysis: analysis.clone(), own_cost_usd };
                    self.cache.store_analysis(key, stored, request.terms.control);
                }
                _ => self.cache.refuse(),
            }
        }
    }

    /// Estimates what a call about `observation` alone would cost, in USD.
    pub(crate) fn own_cost(
        &self,
        model: &Model,
        question: &str,
        context: &str,
        observation: &Observation,
    ) -> f64 {
        let price = model.expected();
        if price == Price::default() {
            return 0.0;
        }
        price.cost(batch::weight::alone(question, context, observation))
    }
}

/// Puts one call; it is given up when all callers it asks for have left.
async fn put(
    model: &Model,
    requests: &[Request],
    call: Call,
    prompt: Prompt,
    reservation: Reservation,
) -> Put {
    let Kind::Target(target) = &model.kind else {
        return Put { call, prompt, reservation, answer: None };
    };
    let parts = call.parts();
    let callers: Vec<&Request> = parts.iter().filter_map(|part| requests.get(*part)).collect();
    // The last one to wait; forever, if one of them waits forever.
    let deadlines: Option<Vec<Instant>> = callers.iter().map(|caller| caller.terms.deadline).collect();
    let deadline = deadlines.and_then(|deadlines| deadlines.into_iter().max());
    let asking = target.complete(&prompt.conversation, deadline);
    let answer = tokio::select! {
        answer = asking => Some(answer),
        _ = join_all(callers.iter().map(|caller| caller.reply.closed())) => None,
    };
    Put { call, prompt, reservation, answer }
}
