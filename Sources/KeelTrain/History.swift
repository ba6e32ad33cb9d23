/// What training gave, epoch by epoch.
public struct History: Sendable, Codable, Equatable {
  /// One pass over the data, or what of it was taken.
  public struct Epoch: Sendable, Codable, Equatable {
    /// From 1.
    public var number: Int
    /// Mean loss over the samples of the epoch, each seen while the parameters moved; those of skipped steps left out.
    public var trainLoss: Double
    /// Share of these samples classified right, 0…1; nil where targets are no classes.
    public var trainAccuracy: Double?
    /// On the validation data after the epoch; nil without such data, and when training was stopped within the epoch.
    public var validation: Evaluation?
    /// From where the device could begin with it to where the host had its figures, without compilation and evaluation.
    /// What `observe` took of progress in between is part of it; of a short epoch, which the device has before the host
    /// has looked at the one before, also what the host did between the two looks, as `observe` of that one's end.
    public var trainSeconds: Double
    /// Mean loss of each step's batch.
    public var stepLosses: [Double]

    /// Steps taken, skipped ones included.
    public var steps: Int { stepLosses.count }
    /// Steps that changed nothing, because their loss was not finite: ``NonFinitePolicy/skip``.
    public var skippedSteps: Int { stepLosses.count { !$0.isFinite } }
  }

  /// In order; the last one may be incomplete.
  public var epochs: [Epoch] = []

  /// Steps of all epochs.
  public var steps: Int { epochs.reduce(0) { $0 + $1.steps } }
  /// Steps of all epochs that changed nothing.
  public var skippedSteps: Int { epochs.reduce(0) { $0 + $1.skippedSteps } }
  /// ``Epoch/trainSeconds`` of all epochs. No time counts twice.
  public var trainSeconds: Double { epochs.reduce(0) { $0 + $1.trainSeconds } }
  /// Mean over all steps; 0 when there are none.
  public var microsecondsPerStep: Double { steps == 0 ? 0 : trainSeconds / Double(steps) * 1e6 }
}

/// How a model does on data that it does not learn from.
public struct Evaluation: Sendable, Codable, Equatable {
  /// Mean over the samples.
  public var loss: Double
  /// Share of samples classified right, 0…1; nil where targets are no classes.
  public var accuracy: Double?
  /// Samples.
  public var count: Int
}

/// What happens during `fit`, for progress bars and logs.
public enum TrainingEvent: Sendable {
  /// All executables are compiled; `seconds` it took.
  case compiled(seconds: Double)
  /// The device has finished `step` of `steps` of the epoch.
  case progress(epoch: Int, step: Int, steps: Int)
  /// An epoch is over; the model has the values of its end.
  case epoch(History.Epoch)
}

/// Training that can't go on, or can't begin.
public struct TrainingError: Error, Equatable, CustomStringConvertible {
  /// As `[train] expects a batch size above 0, got 0`.
  public let description: String

  init(_ message: String) { description = "[train] \(message)" }
}
