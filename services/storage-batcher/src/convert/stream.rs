//! Writes of a stream, and what came of them.

use contracts::storage as wire;
use rpc::{Caller, Fault, code_name};

use crate::{
    stream::{Limits, OutOfOrder},
    write::{Level, NewWrite, Receipt},
};

/// Checks one write, and when it is acknowledged.
pub(crate) fn streamed(
    caller: &Caller,
    request: wire::WriteStreamRequest,
) -> Result<(NewWrite, Level), Fault> {
    super::write(caller, wire::WriteRequest { write: request.write, level: request.level })
}

/// Says that a write's number does not follow.
pub(crate) fn out_of_order(OutOfOrder { last }: OutOfOrder) -> Fault {
    let must = format!("must be greater than {last}, or that of the first write refused for now");
    Fault::invalid("number", must)
}

/// Says how much may be on its way.
pub(crate) fn credit(limits: Limits) -> wire::WriteStreamResponse {
    let credit =
        wire::StreamCredit { max_unanswered_writes: limits.writes, max_unanswered_bytes: limits.bytes };
    wire::WriteStreamResponse { credit: Some(credit), ..Default::default() }
}

/// Says how far a stream came.
pub(crate) fn ended(last_number: u64) -> wire::WriteStreamResponse {
    wire::WriteStreamResponse { end: Some(wire::StreamEnd { last_number }), ..Default::default() }
}

/// Says that a write is accepted.
pub(crate) fn accepted(number: u64, receipt: &Receipt) -> wire::WriteOutcome {
    let sequence = receipt.sequences.first().copied().unwrap_or_default();
    wire::WriteOutcome { number, sequence, refusal: None }
}

/// Says that a write is refused.
pub(crate) fn refused(number: u64, fault: &Fault, for_now: bool) -> wire::WriteOutcome {
    let field = |violation: &rpc::Violation| wire::WrongField {
        field: violation.field.clone(),
        must: violation.must.clone(),
    };
    let refusal = wire::WriteRefusal {
        code: code_name(fault.code()).to_owned(),
        message: fault.to_string(),
        reason: fault.reason_word().unwrap_or_default().to_owned(),
        fields: fault.violations().iter().map(field).collect(),
        for_now,
        retry_delay: fault.retry_delay().and_then(|delay| delay.try_into().ok()),
    };
    wire::WriteOutcome { number, sequence: 0, refusal: Some(refusal) }
}
