import KeelCore

/// The cross-entropy of softmax(logits) with class labels, a row each: loss = log Σ exp(x) − x[label]. A label that is
/// no class gives NaN, here and in the gradient.
///
/// Operands: logits [N, K], labels i32 [N]. Result: losses [N].
public struct SoftmaxCrossEntropy: OperationRules {
  public init() {}

  public var name: String { "softmaxCrossEntropy" }
  public var attributes: String { "" }
  public var outputCount: Int { 1 }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 2)
    return [TensorType([try expectLogits(inputs)], inputs[0].dtype)]
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? {
    let builder = context.inputs[0].builder
    guard let dloss = context.cotangents[0] else { return [nil, nil] }
    return [
      builder.append(.softmaxCrossEntropyBackward(SoftmaxCrossEntropyBackward()), [dloss] + context.inputs)[0], nil,
    ]
  }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    let (x, rows) = (inputs[0], inputs[0].shape[0])
    let shifted = x - x.max(axes: [1], keepingDimensions: true)
    let total = shifted.elementwise(.exp).sum(axes: [1])
    let hot = oneHot(inputs[1], like: x)
    // Over the number of classes that the label names: 1, or 0 / 0 = NaN for a label that is none.
    let chosen = hot.elementwise(.select, shifted, 0.0).sum(axes: [1]) / hot.sum(axes: [1])
    return [(total.elementwise(.log) - chosen).reshape([rows])]
  }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}

/// dlogits = dloss·(softmax(logits) − onehot(labels)). Operands: dloss [N], logits [N, K], labels i32 [N].
public struct SoftmaxCrossEntropyBackward: OperationRules {
  public init() {}

  public var name: String { "softmaxCrossEntropyBackward" }
  public var attributes: String { "" }
  public var outputCount: Int { 1 }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 3)
    let rows = try expectLogits(Array(inputs[1...]))
    guard inputs[0] == TensorType([rows], inputs[1].dtype) else {
      throw GraphError(name, "expects a cotangent a row, got \(inputs[0]) for \(inputs[1])")
    }
    return [inputs[1]]
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? { nil }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    let (x, rows) = (inputs[1], inputs[1].shape[0])
    let exponentials = (x - x.max(axes: [1], keepingDimensions: true)).elementwise(.exp)
    let softmax = exponentials / exponentials.sum(axes: [1], keepingDimensions: true)
    let hot = oneHot(inputs[2], like: x)
    // NaN for a label that is no class, as the loss is.
    return [(softmax - hot / hot.sum(axes: [1], keepingDimensions: true)) * inputs[0].reshape([rows, 1])]
  }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}

/// A ``SoftmaxCrossEntropy`` and its ``SoftmaxCrossEntropyBackward`` at once, and where it says so a ``TopOne``.
///
/// Operands: dloss [N], logits [N, K], labels i32 [N]. Results: losses [N], dlogits [N, K], and [N].
public struct SoftmaxCrossEntropyWithGradient: OperationRules {
  public let hasTopOne: Bool

  public init(hasTopOne: Bool) { self.hasTopOne = hasTopOne }

  public var name: String { "softmaxCrossEntropyWithGradient" }
  public var attributes: String { hasTopOne ? "top one" : "" }
  public var outputCount: Int { hasTopOne ? 3 : 2 }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 3)
    let rows = TensorType([try expectLogits(Array(inputs[1...]))], inputs[1].dtype)
    guard inputs[0] == rows else {
      throw GraphError(name, "expects a cotangent a row, got \(inputs[0]) for \(inputs[1])")
    }
    return [rows, inputs[1]] + (hasTopOne ? [rows] : [])
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? { nil }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    let (builder, row) = (inputs[0].builder, Array(inputs[1...]))
    return builder.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), row)
      + builder.append(.softmaxCrossEntropyBackward(SoftmaxCrossEntropyBackward()), inputs)
      + (hasTopOne ? builder.append(.topOne(TopOne()), row) : [])
  }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}

/// 1 for each row whose largest logit (the first of equals) is the labelled one, else 0.
///
/// Operands: logits [N, K], labels i32 [N]. Result: [N] of the logits' type.
public struct TopOne: OperationRules {
  public init() {}

  public var name: String { "topOne" }
  public var attributes: String { "" }
  public var outputCount: Int { 1 }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 2)
    return [TensorType([try expectLogits(inputs)], inputs[0].dtype)]
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? { [nil, nil] }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    let (x, rows) = (inputs[0], inputs[0].shape[0])
    let isMaximum = x.elementwise(.equal, x.max(axes: [1], keepingDimensions: true))
    let label = inputs[1].cast(to: x.dtype).reshape([rows, 1])
    let hit = (isMaximum * oneHot(inputs[1], like: x)).sum(axes: [1])
    let earlier = (isMaximum * label.elementwise(.greater, classes(x))).sum(axes: [1])
    return [hit * earlier.elementwise(.equal, 0.0)]
  }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}

extension OperationRules {
  /// The number of rows, for operands logits [N, K] and labels i32 [N].
  fileprivate func expectLogits(_ inputs: [TensorType]) throws(GraphError) -> Int {
    let (logits, labels) = (inputs[0], inputs[1])
    try expectNotStorageOnly(logits)
    guard logits.shape.rank == 2, logits.shape[1] > 0, logits.dtype.isFloatingPoint,
      labels == TensorType([logits.shape[0]], .int32)
    else { throw GraphError(name, "expects logits [N, K] and labels i32[N], got \(logits) and \(labels)") }
    return logits.shape[0]
  }
}

/// The class numbers 0, 1, …, K − 1 as a row.
private func classes(_ x: Tensor) -> Tensor {
  x.builder.constant((0..<x.shape[1]).map { Double($0) }, [1, x.shape[1]], x.dtype)
}

private func oneHot(_ labels: Tensor, like x: Tensor) -> Tensor {
  labels.cast(to: x.dtype).reshape([x.shape[0], 1]).elementwise(.equal, classes(x))
}
