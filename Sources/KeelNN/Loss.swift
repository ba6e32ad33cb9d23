import KeelCore
import KeelGraph

/// What training makes small: one number a sample, of which the mean over the batch is differentiated.
public enum Loss: String, Hashable, Sendable, Codable, CaseIterable {
  /// log Σ exp(z) − z[label] for outputs z [N, K] (before any softmax) and labels i32 [N].
  case softmaxCrossEntropy
  /// The mean of (output − target)² over all axes but the first, for targets of the outputs' type.
  case meanSquaredError

  /// Whether targets are class labels, so that there is an accuracy.
  public var isClassification: Bool { self == .softmaxCrossEntropy }

  /// The losses [N] of N samples.
  public func callAsFunction(_ outputs: Tensor, _ targets: Tensor) -> Tensor {
    outputs.builder.scope(at: "loss") {
      switch self {
      case .softmaxCrossEntropy:
        return outputs.builder.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [outputs, targets])[0]
      case .meanSquaredError:
        // Shapes that only broadcast would give a wrong loss without a word.
        guard outputs.type == targets.type, outputs.shape.rank > 0, outputs.dtype.isFloatingPoint else {
          return outputs.rejected(
            rawValue, "expects outputs [N, ..] and targets of one type, got \(outputs.type) and \(targets.type)")
        }
        let squares = (outputs - targets).elementwise(.square)
        return squares.shape.rank == 1 ? squares : squares.mean(axes: Array(1..<squares.shape.rank))
      }
    }
  }

  /// 1 for each sample whose largest output is the labelled one, else 0: [N]. Nil when targets are no labels.
  public func hits(_ outputs: Tensor, _ targets: Tensor) -> Tensor? {
    guard isClassification else { return nil }
    return outputs.builder.scope(at: "accuracy") {
      outputs.builder.append(.topOne(TopOne()), [outputs, targets])[0]
    }
  }
}
