import Foundation
import KeelCore
import KeelGraph
import KeelRuntime

/// What stays the same from epoch to epoch of a call of `fit`.
final class Course {
  let data: any SampleSource
  let plan: EpochPlan
  let epochs: Int
  let feed: SampleFeed
  /// By window, then by size of batch.
  let executables: [[Executable]]
  let seed: UInt64
  let shuffles: Bool
  /// Whether the device has an epoch before the host has looked at the one before it. To wake each other takes the two
  /// some 0.1 ms, as long as several steps of a small network, so it pays where epochs are short and the state is small:
  /// values of the end of each epoch, optimizer slots too, are taken, so that what was ahead can be taken back.
  ///
  /// A long order (see ``SampleFeed/begin(_:)``) is drawn while the device is at the epoch before, but written when
  /// that has ended: the device waits for it, and is ahead of the host's look alone.
  let runsAhead: Bool
  /// Room for the ends of epochs, which take turns.
  let ends: [Snapshot]
  /// How far the device has come, in between.
  let cursor: Snapshot
  /// When the host looked last.
  var looked = Date.distantPast
  /// The epoch under way.
  var run: EpochRun?
  /// The one after it where the device was given that already, or what came in between; nil where it was not.
  var ahead: Result<EpochRun, any Error>?

  init(
    data: any SampleSource, plan: EpochPlan, epochs: Int, feed: SampleFeed, executables: [[Executable]], seed: UInt64,
    shuffles: Bool, validates: Bool, _ variables: VariableStore
  ) {
    (self.data, self.plan, self.epochs, self.feed, self.executables) = (data, plan, epochs, feed, executables)
    (self.seed, self.shuffles) = (seed, shuffles)
    let names = DataNames.train
    let values: Set<Role> = [.parameter, .runningStatistic]
    let state = values.union([.optimizerSlot])
    let runsAhead =
      epochs > 1 && !validates && !feed.isStreamed && plan.steps <= Trainer.stepsPerWait
      && variables.byteCount(state) <= Self.stateBytesAhead
    self.runsAhead = runsAhead
    ends = (0..<(runsAhead ? 2 : 1)).map { _ in
      variables.snapshot(runsAhead ? state : values, and: [names.cursor, names.history])
    }
    cursor = variables.snapshot([], and: [names.cursor])
  }

  /// The largest state with which a course runs ahead. Two thirds of it are optimizer slots with Adam, which no one would
  /// read otherwise: at some 10 GB/s that takes the 0.1 ms that are to be saved.
  static let stateBytesAhead = 2 << 20
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
  /// Epochs of the trainer, with it.
  let epochsSeen: Int
}

extension Trainer {
  /// One epoch; the model has the values of its end then. Where the course runs ahead the device was given the next one
  /// before: what came in between there is thrown when that one is asked for, so this one is not lost.
  func epoch(_ number: Int, of course: Course, progress: (Int) -> Bool) throws -> History.Epoch {
    let begun = course.ahead
    course.ahead = nil
    let run = try begun?.get() ?? begin(number, of: course)
    course.run = run
    if course.runsAhead, number < course.epochs { course.ahead = Result { try begin(number + 1, of: course) } }
    return try finish(run, of: course, progress: progress)
  }

  /// Draws the order of an epoch and gives it to the device, and all of its steps with it where the course runs ahead.
  func begin(_ number: Int, of course: Course) throws -> EpochRun {
    var generator = Philox(seed: course.seed, stream: UInt64(epochsSeen))
    let count = course.data.count
    let order = course.shuffles ? generator.permutation(count) : (0..<Int32(count)).map { $0 }
    try course.feed.begin(order)
    let run = EpochRun(
      number: number, order: order, begun: Date(), end: course.ends[number % course.ends.count],
      epochsSeen: epochsSeen + 1)
    if course.runsAhead {
      for (executable, count) in zip(course.executables[0], course.plan.counts) { try executable.run(times: count) }
      try run.end.take()
      try context.queue.flush()
    }
    epochsSeen = run.epochsSeen
    return run
  }

  /// The rest of an epoch. The host enqueues; it waits now and then, to report and so that the queue stays short. At the
  /// end the model has the epoch's values.
  private func finish(_ run: EpochRun, of course: Course, progress: (Int) -> Bool) throws -> History.Epoch {
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
    try takeOver(run.end.values(.parameter), run.end.values(.runningStatistic))
    step += done - epoch.skippedSteps
    return epoch
  }

  /// Where the device was given the next epoch already, or a part of it: puts everything back to the end of this one, its
  /// order too.
  func takeBack(_ course: Course) throws {
    guard let run = course.run, course.ahead != nil else { return }
    course.ahead = nil
    epochsSeen = run.epochsSeen
    try course.feed.begin(run.order)
    try run.end.restore()
  }

  /// After an error in an epoch: the steps that the device has taken of it. Where those of the next one can't be taken
  /// back it throws, and the model keeps the values of the last epoch's end.
  func keepInterrupted(_ course: Course) throws {
    try takeBack(course)
    try takeOverInterrupted()
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
