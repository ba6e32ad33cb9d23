import KeelCore

/// Batch normalization with the statistics of the batch.
///
///     μ = Σx/m    σ² = Σ(x − μ)²/m    y = γ·(x − μ)/√(σ² + ε) + β
///
/// Operands: x [.., C on `axis`], scale γ [C], shift β [C], then those of the epilogue (of x's type and shape, or one
/// element). x may be of a type of storage: then so is y, and everything else is of its ``DType/arithmetic`` type.
/// Results: y, mean, residual, variance. The mean is a sum of two numbers, `mean + residual`, so that subtracting it
/// loses no digits when |μ| ≫ σ; the variance is the biased one.
///
/// Source: Ioffe & Szegedy 2015, algorithm 1.
public struct BatchNormTraining: OperationRules {
  public let axis: Int
  public let epsilon: Double
  public var epilogue: Expression?

  public init(axis: Int, epsilon: Double, epilogue: Expression? = nil) {
    self.axis = axis
    self.epsilon = epsilon
    self.epilogue = epilogue
  }

  public var name: String { "batchNormTraining" }
  public var attributes: String {
    "axis \(axis), epsilon \(epsilon)" + (epilogue.map { ", epilogue \($0)" } ?? "")
  }
  public var outputCount: Int { 4 }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 3, slot: epilogue)
    let x = inputs[0]
    let dtype = try expectArithmetic(inputs[1...2], of: x)
    let channels = try channelCount(x, inputs[1...2], axis: axis)
    guard x.count / max(channels.count, 1) > 1 else {
      throw GraphError(
        name,
        "training expects more than one value per channel, got \(x.shape): the variance of one value is no estimate")
    }
    try expectFullOrScalar(inputs.dropFirst(3), x)
    return [x] + Array(repeating: TensorType(channels.shape, dtype), count: 3)
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? {
    guard epilogue == nil else { return nil }
    let (x, scale) = (context.inputs[0], context.inputs[1])
    let (mean, residual, variance) = (context.outputs[1], context.outputs[2], context.outputs[3])
    var (dx, dscale, dshift): (Tensor?, Tensor?, Tensor?)
    if let dy = context.cotangents[0] {
      let results = x.builder.append(
        .batchNormBackward(BatchNormBackward(axis: axis, epsilon: epsilon)), [dy, x, scale, mean, residual, variance])
      (dx, dscale, dshift) = (results[0], results[1], results[2])
    }
    let m = Double(x.shape.count) / Double(x.shape[axis])
    let values = x.cast(to: x.dtype.arithmetic)
    func add(_ term: Tensor) { dx = (dx.map { $0.cast(to: values.dtype) + term } ?? term).cast(to: x.dtype) }
    if let dmean = context.cotangents[1] {
      add((dmean / m).channels(axis, of: x.shape).broadcast(to: x.shape))
    }
    if let dvariance = context.cotangents[3] {
      let centred = values - mean.channels(axis, of: x.shape) - residual.channels(axis, of: x.shape)
      add(centred * (dvariance * (2 / m)).channels(axis, of: x.shape))
    }
    return [dx, dscale, dshift]
  }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    let x = inputs[0].cast(to: inputs[0].dtype.arithmetic)
    let axes = otherAxes(axis, x.shape)
    let rough = x.mean(axes: axes)
    let offset = x - rough.channels(axis, of: x.shape)
    // What rounding left over in the first mean.
    let residual = offset.mean(axes: axes)
    let centred = offset - residual.channels(axis, of: x.shape)
    let variance = centred.elementwise(.square).mean(axes: axes)
    let rstd = (variance + epsilon).elementwise(.reciprocalSquareRoot)
    let y =
      centred * rstd.channels(axis, of: x.shape) * inputs[1].channels(axis, of: x.shape)
      + inputs[2].channels(axis, of: x.shape)
    let result = epilogue?.trace([y] + inputs.dropFirst(3).map { $0.cast(to: x.dtype) }) ?? y
    return [result.cast(to: inputs[0].dtype), rough, residual, variance]
  }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}

/// The backward pass of ``BatchNormTraining``.
///
///     dβ = Σdy    dγ = Σdy·x̂    dx = γ·rstd·(dy − dβ/m − x̂·dγ/m)
///
/// Operands: dy, x, scale, mean, residual, variance, then those of the prologue. In the prologue's expression input 0
/// is the first operand and the result is dy. dy and dx are of x's type, the vectors of its ``DType/arithmetic`` type.
/// Results: dx, dscale, dshift.
///
/// Source: Ioffe & Szegedy 2015, section 3, simplified as in the systems that users come from.
public struct BatchNormBackward: OperationRules {
  public let axis: Int
  public let epsilon: Double
  public var prologue: Expression?

  public init(axis: Int, epsilon: Double, prologue: Expression? = nil) {
    self.axis = axis
    self.epsilon = epsilon
    self.prologue = prologue
  }

  public var name: String { "batchNormBackward" }
  public var attributes: String {
    "axis \(axis), epsilon \(epsilon)" + (prologue.map { ", prologue \($0)" } ?? "")
  }
  public var outputCount: Int { 3 }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: 6, slot: prologue)
    let x = inputs[1]
    let dtype = try expectArithmetic(inputs[2...5], of: x)
    let channels = try channelCount(x, inputs[2...5], axis: axis)
    guard inputs[0] == x else { throw GraphError(name, "expects dy of x's type \(x), got \(inputs[0])") }
    try expectFullOrScalar(inputs.dropFirst(6), x)
    return [x] + Array(repeating: TensorType(channels.shape, dtype), count: 2)
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? { nil }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    let x = inputs[1].cast(to: inputs[1].dtype.arithmetic)
    let axes = otherAxes(axis, x.shape)
    let m = Double(x.shape.count) / Double(x.shape[axis])
    let first = inputs[0].cast(to: x.dtype)
    let dy = prologue?.trace([first] + inputs.dropFirst(6).map { $0.cast(to: x.dtype) }) ?? first
    let rstd = (inputs[5] + epsilon).elementwise(.reciprocalSquareRoot)
    let centred = x - inputs[3].channels(axis, of: x.shape) - inputs[4].channels(axis, of: x.shape)
    let normalized = centred * rstd.channels(axis, of: x.shape)
    let dshift = dy.sum(axes: axes)
    let dscale = (dy * normalized).sum(axes: axes)
    let dx =
      (dy - (dshift / m).channels(axis, of: x.shape) - normalized * (dscale / m).channels(axis, of: x.shape))
      * (inputs[2] * rstd).channels(axis, of: x.shape)
    return [dx.cast(to: inputs[1].dtype), dscale, dshift]
  }
  public var inPlace: [(output: Int, operand: Int)] { [] }
}

/// Moves running statistics towards those of a batch.
///
///     μ_r ← (1 − α)·μ_r + α·μ    σ²_r ← (1 − α)·σ²_r + α·f·σ²    n ← n + 1
///
/// with α = `weight` (of the new value, as PyTorch counts it) and f = `varianceFactor`, m/(m − 1) for the unbiased
/// variance or 1. n counts the batches that moved a channel: one whose batch statistics are not finite keeps its running
/// ones, and its n.
///
/// Operands: running mean, running variance, n, mean, residual, variance, all [C]; when it is guarded also a scalar, and
/// nothing moves unless that is finite. Results: new running mean, running variance and n.
public struct BatchNormRunningUpdate: OperationRules {
  /// α.
  public enum Weight: Hashable, Sendable, CustomStringConvertible {
    case fixed(Double)
    /// 1/(n + 1): the running statistics are the averages over all batches so far, and the first batch replaces what
    /// they were at the start. PyTorch's `momentum=None`.
    case cumulative

    public var description: String {
      switch self {
      case .fixed(let weight): "\(weight)"
      case .cumulative: "cumulative"
      }
    }
  }

  public let weight: Weight
  public let varianceFactor: Double
  public var isGuarded = false

  public init(weight: Weight, varianceFactor: Double) {
    self.weight = weight
    self.varianceFactor = varianceFactor
  }

  public var name: String { "batchNormRunningUpdate" }
  public var attributes: String {
    "weight \(weight), varianceFactor \(varianceFactor)" + (isGuarded ? ", guarded" : "")
  }
  public var outputCount: Int { 3 }

  public func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    try expect(inputs, count: isGuarded ? 7 : 6)
    try expectReal(inputs)
    guard inputs[..<6].allSatisfy({ $0 == inputs[0] && $0.shape.rank == 1 }) else {
      throw GraphError(name, "expects six vectors of one length, got \(Array(inputs[..<6]))")
    }
    try expectGuard(inputs.dropFirst(6).first)
    return [inputs[0], inputs[0], inputs[0]]
  }

  public func gradient(_ context: GradientContext) -> [Tensor?]? { context.inputs.map { _ in nil } }

  public func definition(_ inputs: [Tensor]) -> [Tensor]? {
    let (batches, batchMean, batchVariance) = (inputs[2] + 1, inputs[3], inputs[5])
    func moved(_ old: Tensor, by change: Tensor) -> Tensor {
      switch weight {
      case .fixed(let weight): old + change * weight
      case .cumulative: old + change / batches
      }
    }
    let mean = moved(inputs[0], by: batchMean - inputs[0] + inputs[4])
    let variance = moved(inputs[1], by: batchVariance * varianceFactor - inputs[1])
    // x − x is 0 for a finite x, else NaN.
    var difference = (batchMean - batchMean) + (batchVariance - batchVariance)
    if isGuarded { difference = difference + (inputs[6] - inputs[6]) }
    let isFinite = difference.elementwise(.equal, 0.0)
    return zip([mean, variance, batches], inputs).map { isFinite.elementwise(.select, $0, $1) }
  }
  public var inPlace: [(output: Int, operand: Int)] { [(0, 0), (1, 1), (2, 2)] }
}

extension Tensor {
  /// A vector of one element a channel, shaped so that it broadcasts along `axis` of `shape`.
  public func channels(_ axis: Int, of shape: Shape) -> Tensor {
    var dimensions = [Int](repeating: 1, count: shape.rank)
    if dimensions.indices.contains(axis) { dimensions[axis] = shape[axis] }
    return self.shape.dimensions == dimensions ? self : reshape(Shape(dimensions))
  }
}

extension OperationRules {
  /// The channels of `x` on `axis`; throws unless all `vectors` have one element for each.
  fileprivate func channelCount(
    _ x: TensorType, _ vectors: ArraySlice<TensorType>, axis: Int
  ) throws(GraphError) -> (count: Int, shape: Shape) {
    guard x.shape.dimensions.indices.contains(axis) else {
      throw GraphError(name, "expects an axis of \(x.shape), got \(axis)")
    }
    let channels = x.shape[axis]
    for vector in vectors where vector.shape != [channels] {
      throw GraphError(name, "expects \(vector.shape.count) channels on axis \(axis), got \(x.shape)")
    }
    return (channels, [channels])
  }

  /// Throws unless the vectors are of the type in which values of `x` are computed; gives that type.
  fileprivate func expectArithmetic(_ vectors: ArraySlice<TensorType>, of x: TensorType) throws(GraphError) -> DType {
    guard x.dtype.isFloatingPoint, vectors.allSatisfy({ $0.dtype == x.dtype.arithmetic }) else {
      throw GraphError(
        name, "expects x of a floating-point type and vectors of the type it is computed in, got \([x] + vectors)")
    }
    return x.dtype.arithmetic
  }

  fileprivate func expectFullOrScalar(_ operands: ArraySlice<TensorType>, _ x: TensorType) throws(GraphError) {
    for operand in operands where operand != x && (operand.count != 1 || operand.dtype != x.dtype) {
      throw GraphError(name, "expects slot operands of \(x) or one element of its type, got \(operand)")
    }
  }
}

private func otherAxes(_ axis: Int, _ shape: Shape) -> [Int] { shape.dimensions.indices.filter { $0 != axis } }
