import KeelCore
import KeelGraph
import KeelRuntime

extension Trainer {
  /// Kernel launches of one full training step of `fit` with this data and batch size.
  ///
  /// - Throws: when `fit` has not been called with such data before: nothing is on the device for it then.
  public func launchesPerStep(_ data: Dataset, batchSize: Int) throws -> Int {
    let plan = try EpochPlan(data, batchSize: batchSize, dropsLast: false)
    let shape = StepShape(data, rows: plan.batches[0], steps: plan.steps)
    return try trainingExecutable(shape, .stop).launches.count
  }

  /// Takes `steps` training steps on the first batches of the epoch at hand, one right after the other, and gives the
  /// times of their launches. Parameters, statistics, optimizer and step are afterwards as they were.
  ///
  /// - Parameter steps: at most those of an epoch; 1 at least.
  /// - Throws: when `fit` has not been called with such data before, or a trainer whose options do not say
  ///   `profiles`; during `fit`.
  public func timeline(_ data: Dataset, batchSize: Int, steps: Int = 50) throws -> Timeline {
    try checkIdle("timeline")
    let plan = try EpochPlan(data, batchSize: batchSize, dropsLast: false)
    let executable = try trainingExecutable(
      StepShape(data, rows: plan.batches[0], steps: plan.steps), .stop)
    try variables.write(DataNames.train.cursor, HostTensor([3], [0, 0, Int32(clamping: step)]))
    var timeline: Timeline?
    try variables.preservingState { timeline = try executable.timeline(runs: min(max(steps, 1), plan.counts[0])) }
    guard let timeline else { throw TrainingError("no timeline was taken") }
    return timeline
  }
}
