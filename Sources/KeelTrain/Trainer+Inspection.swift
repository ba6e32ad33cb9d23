import KeelCore
import KeelGraph
import KeelRuntime

extension Trainer {
  /// What one training step of full batches asks of the device.
  public struct StepWork: Sendable {
    /// Launches for the driver.
    public var launches: Int
    /// Floating-point operations.
    public var flops: Double
    /// Bytes that its kernels read and write, at least, in memory or in caches.
    public var bytes: Double
  }

  /// What one training step of full batches asks of the device, as `fit` ran it last.
  ///
  /// - Throws: when `fit` has not been called before; during `fit`.
  public func stepWork() throws -> StepWork {
    try checkIdle("stepWork")
    let launches = try lastExecutable("stepWork").launches
    return StepWork(
      launches: launches.count, flops: launches.reduce(0) { $0 + $1.flops },
      bytes: launches.reduce(0) { $0 + $1.bytes })
  }

  /// The graph of one training step of full batches after all passes, as `fit` ran it last.
  ///
  /// - Throws: when `fit` has not been called before; during `fit`.
  public func stepGraph() throws -> Graph {
    try checkIdle("stepGraph")
    return try lastExecutable("stepGraph").graph
  }

  /// Takes training steps on the first batches of the last epoch's order (of a window, where the data are streamed), one
  /// right after the other, and gives the times of their launches. Parameters, statistics, optimizer and step are
  /// afterwards as they were.
  ///
  /// - Parameter steps: as many, or as an epoch has when that is less; 1 at least.
  /// - Throws: when `fit` has not been called before, or a trainer whose options do not say `profiles`; during `fit`.
  public func timeline(steps: Int = 50) throws -> Timeline {
    try checkIdle("timeline")
    let executable = try lastExecutable("timeline")
    let fullSteps = lastTraining.map { min($0.shape.features.shape[0] / $0.shape.rows, $0.shape.steps) } ?? 1
    var timeline: Timeline?
    try variables.preservingState {
      // What drivers put off until a kernel is enqueued does not belong to its time.
      for runs in [1, min(max(steps, 1), fullSteps)] {
        try variables.write(DataNames.train.cursor, HostTensor([3], [0, 0, Int32(clamping: step)]))
        timeline = try executable.timeline(runs: runs)
      }
    }
    guard let timeline else { throw TrainingError("no timeline was taken") }
    return timeline
  }

  private func lastExecutable(_ call: String) throws -> Executable {
    guard let lastTraining else { throw TrainingError("\(call) expects fit to have been called before") }
    return try trainingExecutable(lastTraining.shape, lastTraining.onNonFiniteLoss)
  }
}
