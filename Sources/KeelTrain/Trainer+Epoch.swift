import Foundation
import KeelCore
import KeelGraph
import KeelRuntime

/// What stays the same from epoch to epoch of a call of `fit`.
final class Course {
  let data: any SampleSource
  let plan: EpochPlan
  let feed: SampleFeed
  /// By window, then by size of batch.
  let executables: [[Executable]]
  let seed: UInt64
  let shuffles: Bool
  /// Whether the device has an epoch before the host has looked at the one before it. To wake each other takes the two
  /// some 0.1 ms, as long as several steps of a small network, so it pays where epochs are short. Values of the end of
  /// each epoch are taken, so that what was ahead can be taken back.
  let runsAhead: Bool
  /// Room for the ends of epochs, which take turns.
  let ends: [Snapshot]
  /// How far the device has come, in between.
  let cursor: Snapshot
  /// When the host looked last.
  var looked = Date.distantPast

  init(
    data: any SampleSource, plan: EpochPlan, feed: SampleFeed, executables: [[Executable]], seed: UInt64,
    shuffles: Bool, runsAhead: Bool, _ variables: VariableStore
  ) {
    (self.data, self.plan, self.feed, self.executables) = (data, plan, feed, executables)
    (self.seed, self.shuffles, self.runsAhead) = (seed, shuffles, runsAhead)
    let names = DataNames.train
    let roles: Set<Role> = [.parameter, .runningStatistic]
    ends = (0..<(runsAhead ? 2 : 1)).map { _ in
      variables.snapshot(runsAhead ? roles.union([.optimizerSlot]) : roles, and: [names.cursor, names.history])
    }
    cursor = variables.snapshot([], and: [names.cursor])
  }
}

/// An epoch that was begun.
struct EpochRun {
  /// From 1.
  let number: Int
  /// Of its samples.
  let order: [Int32]
  /// When the device had its order.
  let begun: Date
  /// Values at its end.
  let end: Snapshot
}

extension Trainer {
  /// Draws the order of an epoch and gives it to the device, and all of its steps with it where the course runs ahead.
  func begin(_ number: Int, of course: Course) throws -> EpochRun {
    var generator = Philox(seed: course.seed, stream: UInt64(epochsSeen))
    let count = course.data.count
    let order = course.shuffles ? generator.permutation(count) : (0..<Int32(count)).map { $0 }
    try course.feed.begin(order)
    epochsSeen += 1
    let run = EpochRun(number: number, order: order, begun: Date(), end: course.ends[number % course.ends.count])
    if course.runsAhead {
      for (executable, count) in zip(course.executables[0], course.plan.counts) { try executable.run(times: count) }
      try run.end.take()
      try context.queue.flush()
    }
    return run
  }

  /// The rest of an epoch. The host enqueues; it waits now and then, to report and so that the queue stays short. At the
  /// end the values of ``EpochRun/end`` are the epoch's.
  func finish(_ run: EpochRun, of course: Course, progress: (Int) -> Bool) throws -> History.Epoch {
    let (plan, feed) = (course.plan, course.feed)
    // Steps that were given ahead began when the device was done with those before.
    let start = max(run.begun, course.looked)
    var done = 0
    var continues = true
    /// Waits for the steps given so far. A cursor that stays behind is held by a loss that is not finite.
    func look(_ values: Snapshot) throws {
      let cursor = try values.value(DataNames.train.cursor).doubles
      if Int(cursor[Cursor.stepInEpoch]) < done {
        throw try nonFiniteLoss(run, course, step: Int(cursor[Cursor.stepInEpoch]))
      }
      continues = progress(done)
    }
    if course.runsAhead {
      done = plan.steps
      try look(run.end)
    }
    for window in feed.windows where continues && !course.runsAhead {
      try feed.open(window)
      for burst in window.bursts(ofSteps: Self.stepsPerWait) where continues {
        for (executable, count) in zip(course.executables[window.slot], burst) { try executable.run(times: count) }
        done += burst.reduce(0, +)
        let values = done == plan.steps ? run.end : course.cursor
        try values.take()
        try look(values)
      }
    }
    if done < plan.steps { try run.end.take() }

    let rows = plan.rows.prefix(done)
    let figures = try run.end.value(DataNames.train.history).doubles
    course.looked = Date()
    let result = Evaluation(
      figures: figures, rows: Array(rows), isClassification: loss.isClassification, skipsNonFinite: true)
    let epoch = History.Epoch(
      number: run.number, trainLoss: result.loss, trainAccuracy: result.accuracy, validation: nil,
      trainSeconds: course.looked.timeIntervalSince(start), stepLosses: (0..<done).map { figures[2 * $0] })
    step += done - epoch.skippedSteps
    return epoch
  }

  /// Puts everything back to the end of an epoch, where the device was given the next one already.
  func takeBack(to run: EpochRun) throws {
    epochsSeen -= 1
    try run.end.restore()
    try context.queue.finish()
  }

  /// What is to be said of a step, counted from 0, that did not give a finite loss.
  private func nonFiniteLoss(_ run: EpochRun, _ course: Course, step: Int) throws -> NonFiniteLoss {
    if !course.runsAhead { try run.end.take() }
    let figures = try run.end.value(DataNames.train.history).doubles
    let samples = run.order[(step * course.plan.batches[0])...].prefix(course.plan.rows[step]).map { Int($0) }
    return NonFiniteLoss(
      epoch: run.number, step: step + 1, loss: figures[2 * step], sample: course.data.firstNonFinite(samples))
  }
}
