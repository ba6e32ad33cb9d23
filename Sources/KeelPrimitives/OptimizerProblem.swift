import Foundation
import KeelCL
import KeelCore

/// The update of a flat run of parameters.
///
/// Operands: outputs parameters and slots, changed in place; inputs gradients, learning rates, cursor, and when it is
/// guarded a scalar: nothing changes unless that is finite.
public struct OptimizerProblem: KernelProblem {
  /// The formula, and its settings.
  public enum Rule: Hashable, Sendable {
    case sgd(momentum: Double, nesterov: Bool, weightDecay: Double)
    case adam(beta1: Double, beta2: Double, epsilon: Double, weightDecay: Double)
  }

  /// The formula, and its settings.
  public var rule: Rule
  /// Number of parameters.
  public var count: Int
  /// Element type of the floating-point operands.
  public var dtype: DType
  /// Whether a scalar decides.
  public var isGuarded: Bool

  /// The problem of these sizes.
  public init(_ rule: Rule, count: Int, dtype: DType = .float32, isGuarded: Bool = false) {
    self.rule = rule
    self.count = count
    self.dtype = dtype
    self.isGuarded = isGuarded
  }

  /// The name of the family.
  public static let family = "optimizer"
  /// Rule and size, for a person.
  public var label: String { "\(name) \(count)" }

  private var name: String {
    switch rule {
    case .sgd: "sgd"
    case .adam: "adam"
    }
  }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<OptimizerProblem>] = [
    Variant("blocks", takes: { $1.isCPU }) { problem, operands, context in
      let block = flatBlock(problem.count)
      return [
        try problem.bind(
          "blocks", operands, context, block: block, global: [divideUp(problem.count, block)], isSingleItem: true)
      ]
    },
    Variant("naive") { problem, operands, context in
      [try problem.bind("each", operands, context, block: 1, global: [problem.count], isSingleItem: false)]
    },
  ]

  private func bind(
    _ form: String, _ operands: Operands, _ context: ComputeContext, block: Int, global: [Int], isSingleItem: Bool
  ) throws -> BoundLaunch {
    var spec = ProgramSpec("\(name).cl", dtype)
    let settings: [Double]
    switch rule {
    case .sgd(let momentum, let nesterov, let weightDecay):
      spec.define("MOMENTUM", momentum == 0 ? "0" : "1")
      spec.define("NESTEROV", nesterov ? "1" : "0")
      settings = [momentum, weightDecay]
    case .adam(let beta1, let beta2, let epsilon, let weightDecay):
      settings = [beta1, beta2, epsilon, log(beta1), log(beta2), weightDecay]
    }
    if isGuarded { spec.define("GUARDED", "1") }
    return try context.bind(
      "\(name)_\(form)", of: spec,
      (operands.outputs + operands.inputs).map { .buffer($0) } + settings.map { .real($0) }
        + [.long(count), .long(block)],
      global: global, isSingleItem: isSingleItem, label: label, flops: 10 * Double(count),
      bytes: Double(count * (2 * operands.outputs.count + 1) * dtype.byteCount))
  }
}
