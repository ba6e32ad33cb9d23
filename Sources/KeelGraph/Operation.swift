import KeelCore

/// What every operation must say of itself. There are no defaults: an operation without a rule does not compile.
public protocol OperationRules: Hashable, Sendable {
  /// The name in printed graphs and at the head of errors.
  var name: String { get }
  /// What is printed in braces after the name; empty for none.
  var attributes: String { get }
  var outputCount: Int { get }

  /// The types of the results. Throws what was expected and what came.
  func outputTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType]

  /// The cotangent of each operand (nil: none flows there), written in graph operations. A nil array means "as the
  /// definition says".
  func gradient(_ context: GradientContext) -> [Tensor?]?

  /// The operation written in simpler ones: the oracle of its tests, and what `KEEL_FUSE=0` runs. Nil for a primitive,
  /// which the interpreter defines.
  func definition(_ inputs: [Tensor]) -> [Tensor]?

  /// Pairs (output, operand) that may share memory, because each element is read before it is written.
  var inPlace: [(output: Int, operand: Int)] { get }
}

extension OperationRules {
  /// The types of the results. Throws for one that no memory holds too: below that, products of extents are within an
  /// `Int`, and so are sums of sizes in all that is made of a graph of fewer than 2¹⁵ such results.
  func checkedTypes(_ inputs: [TensorType]) throws(GraphError) -> [TensorType] {
    let types = try outputTypes(inputs)
    for type in types {
      // An extent of 0 leaves products of the others.
      let extents = Shape(type.shape.dimensions.map { max($0, 1) })
      guard TensorType(extents, type.dtype).byteCount <= 1 << 48 else {
        throw GraphError(name, "expects results of at most 2⁴⁸ bytes, got \(type)")
      }
    }
    return types
  }
}

/// What a gradient rule sees: operands, results, and the cotangent of each result (nil where none arrived).
public struct GradientContext {
  public let inputs: [Tensor]
  public let outputs: [Tensor]
  public let cotangents: [Tensor?]
}

/// The closed set of operations. Lowering and interpreter switch over it, so a new case does not compile until both
/// know it.
public enum Operation: Hashable, Sendable {
  case input(Input)
  case constant(Constant)
  case elementwise(Elementwise)
  case fused(FusedElementwise)
  case cast(Cast)
  case broadcast(Broadcast)
  case reshape(Reshape)
  case transpose(Transpose)
  case reduce(Reduce)
  case matMul(MatMul)
  case matMulUpdate(MatMulUpdate)
  case matMulBatchNorm(MatMulBatchNorm)
  case affineProductGradient(AffineProductGradient)
  case gather(Gather)
  case batchNormTraining(BatchNormTraining)
  case batchNormBackward(BatchNormBackward)
  case batchNormRunningUpdate(BatchNormRunningUpdate)
  case softmaxCrossEntropy(SoftmaxCrossEntropy)
  case softmaxCrossEntropyBackward(SoftmaxCrossEntropyBackward)
  case softmaxCrossEntropyWithGradient(SoftmaxCrossEntropyWithGradient)
  case topOne(TopOne)
  case optimizerStep(OptimizerStep)
  case record(Record)

  public var rules: any OperationRules {
    switch self {
    case .input(let rules): rules
    case .constant(let rules): rules
    case .elementwise(let rules): rules
    case .fused(let rules): rules
    case .cast(let rules): rules
    case .broadcast(let rules): rules
    case .reshape(let rules): rules
    case .transpose(let rules): rules
    case .reduce(let rules): rules
    case .matMul(let rules): rules
    case .matMulUpdate(let rules): rules
    case .matMulBatchNorm(let rules): rules
    case .affineProductGradient(let rules): rules
    case .gather(let rules): rules
    case .batchNormTraining(let rules): rules
    case .batchNormBackward(let rules): rules
    case .batchNormRunningUpdate(let rules): rules
    case .softmaxCrossEntropy(let rules): rules
    case .softmaxCrossEntropyBackward(let rules): rules
    case .softmaxCrossEntropyWithGradient(let rules): rules
    case .topOne(let rules): rules
    case .optimizerStep(let rules): rules
    case .record(let rules): rules
    }
  }
}

extension Operation {
  /// The same update, made only where one more operand, a scalar, is finite; nil for what knows no such operand.
  var guarded: Operation? {
    switch self {
    case .batchNormRunningUpdate(var update):
      update.isGuarded = true
      return .batchNormRunningUpdate(update)
    case .optimizerStep(var step):
      step.isGuarded = true
      return .optimizerStep(step)
    case .matMulUpdate(var update):
      update.isGuarded = true
      return .matMulUpdate(update)
    default:
      return nil
    }
  }
}

extension OperationRules {
  /// Throws unless there are `count` operands.
  func expect(_ inputs: [TensorType], count: Int) throws(GraphError) {
    guard inputs.count == count else { throw GraphError(name, "expects \(count) operands, got \(inputs.count)") }
  }

  /// Throws unless there are as many operands as the operation's own and those of its slot, and the slot's expression is
  /// sound.
  func expect(_ inputs: [TensorType], count: Int, slot: Expression?) throws(GraphError) {
    if let problem = slot?.problem { throw GraphError(name, problem) }
    try expect(inputs, count: count + (slot.map { $0.inputCount - 1 } ?? 0))
  }

  /// Throws unless the operand that a guarded update asks, where there is one, has one element.
  func expectGuard(_ operand: TensorType?) throws(GraphError) {
    guard let operand, operand.count != 1 else { return }
    throw GraphError(name, "expects one element as its guard, got \(operand)")
  }

  /// Throws unless all operands have one floating-point type; gives it back.
  @discardableResult
  func expectFloatingPoint(_ inputs: [TensorType]) throws(GraphError) -> DType {
    guard let first = inputs.first?.dtype, first.isFloatingPoint, inputs.allSatisfy({ $0.dtype == first }) else {
      throw GraphError(name, "expects operands of one floating-point type, got \(inputs)")
    }
    return first
  }

  /// Throws unless all operands have one floating-point type, and one that is computed in; gives it back.
  @discardableResult
  func expectReal(_ inputs: [TensorType]) throws(GraphError) -> DType {
    for input in inputs { try expectNotStorageOnly(input) }
    return try expectFloatingPoint(inputs)
  }

  /// Throws for an operand of a type that values are only stored in.
  func expectNotStorageOnly(_ input: TensorType) throws(GraphError) {
    guard !input.dtype.isStorageOnly else {
      throw GraphError(name, "expects f32 or f64, got \(input); cast(to: .float32) makes it one")
    }
  }
}
