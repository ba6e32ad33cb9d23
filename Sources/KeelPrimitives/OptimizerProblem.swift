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
  public var label: String { "\(rule.name) \(count)" }

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
    var spec = ProgramSpec("\(rule.name).cl", dtype)
    rule.define(in: &spec, isGuarded: isGuarded)
    return try context.bind(
      "\(rule.name)_\(form)", of: spec,
      (operands.outputs + operands.inputs).map { .buffer($0) } + rule.settings + [.long(count), .long(block)],
      global: global, isSingleItem: isSingleItem, label: label, flops: 10 * Double(count),
      bytes: Double(count * (2 * operands.outputs.count + 1) * dtype.byteCount))
  }
}

extension OptimizerProblem.Rule {
  /// The stem of the files that have the formula.
  var name: String {
    switch self {
    case .sgd: "sgd"
    case .adam: "adam"
    }
  }

  /// Tensors of the parameter's shape that are changed with it.
  var slotCount: Int {
    switch self {
    case .sgd(let momentum, _, _): momentum == 0 ? 0 : 1
    case .adam: 2
    }
  }

  /// How many multiply-adds take as long as one update, roughly: a root and a quotient are most of Adam's.
  var terms: Int {
    switch self {
    case .sgd: 8
    case .adam: 64
    }
  }

  /// Says to a program which of the formula's forms it is to have.
  func define(in spec: inout ProgramSpec, isGuarded: Bool) {
    if case .sgd(let momentum, let nesterov, _) = self {
      spec.define("MOMENTUM", momentum == 0 ? "0" : "1")
      spec.define("NESTEROV", nesterov ? "1" : "0")
    }
    if isGuarded { spec.define("GUARDED", "1") }
  }

  /// A kernel's arguments behind learning rates, cursor and guard.
  var settings: [KernelArgument] {
    switch self {
    case .sgd(let momentum, _, let weightDecay): [momentum, weightDecay].map { .real($0) }
    case .adam(let beta1, let beta2, let epsilon, let weightDecay):
      [beta1, beta2, epsilon, log(beta1), log(beta2), weightDecay].map { .real($0) }
    }
  }
}
