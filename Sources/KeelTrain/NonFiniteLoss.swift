import KeelCore

/// What `fit` does with a step whose loss is not a finite number. Whatever it is, that step changes nothing: neither
/// parameters nor the optimizer's state nor running statistics and their counts.
///
/// The loss decides. A gradient that is not finite where the loss is, as that of an infinite feature behind a sigmoid,
/// reaches the parameters, and the next loss tells of it.
public enum NonFinitePolicy: String, Sendable, Codable, CaseIterable {
  /// `fit` throws ``NonFiniteLoss``, and the model is as it was before the step.
  case stop
  /// Training goes on with the next batch; ``History/Epoch/skippedSteps`` counts.
  case skip
}

/// A step of training whose loss was infinite or not a number.
public struct NonFiniteLoss: Error, CustomStringConvertible {
  /// From 1.
  public let epoch: Int
  /// Within the epoch, from 1.
  public let step: Int
  /// What it was.
  public let loss: Double
  /// A sample of the batch, as an index into the data set, that itself has a feature or a target that is not finite;
  /// nil when all are, and what the network makes of them is not.
  public let sample: Int?
  /// The epochs before.
  public internal(set) var history = History()

  public var description: String {
    let cause =
      sample.map { "sample \($0) of the data has a value that is not finite" }
      ?? "the samples of its batch are finite as they are stored, so the network's values have grown too large"
    return "[train] epoch \(epoch), step \(step): the loss is \(loss): \(cause). "
      + "The model is as it was before that step"
  }
}
