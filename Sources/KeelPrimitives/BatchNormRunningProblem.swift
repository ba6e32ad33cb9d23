import KeelCL
import KeelCore

/// The move of running statistics towards a batch's.
///
/// Operands: outputs new mean, variance and count of batches; inputs running mean, running variance, count, then mean,
/// residual and variance of the batch, and when it is guarded a scalar: nothing changes unless that is finite.
public struct BatchNormRunningProblem: KernelProblem {
  /// Channels.
  public var channels: Int
  /// Of the batch: new = (1 - weight)·running + weight·batch; nil for 1 / (count + 1).
  public var weight: Double?
  /// Times the biased variance of the batch, m / (m - 1) for the unbiased one.
  public var varianceFactor: Double
  /// Element type of the floating-point operands.
  public var dtype: DType
  /// Whether a scalar decides.
  public var isGuarded: Bool

  /// The problem of these sizes.
  public init(
    channels: Int, weight: Double?, varianceFactor: Double, dtype: DType = .float32, isGuarded: Bool = false
  ) {
    self.channels = channels
    self.weight = weight
    self.varianceFactor = varianceFactor
    self.dtype = dtype
    self.isGuarded = isGuarded
  }

  /// The name of the family.
  public static let family = "batchNormRunningUpdate"
  /// Sizes, for a person.
  public var label: String { "\(channels)" }

  /// The first that takes device and problem wins.
  public static let variants: [Variant<BatchNormRunningProblem>] = [
    Variant("naive") { problem, operands, context in
      var spec = ProgramSpec("batchnorm_running_update.cl", problem.dtype)
      if problem.weight == nil { spec.define("CUMULATIVE", "1") }
      if problem.isGuarded { spec.define("GUARDED", "1") }
      return [
        try context.bind(
          "batchnorm_running_update", of: spec,
          (operands.outputs + operands.inputs).map { .buffer($0) }
            + [.real(problem.weight ?? 0), .real(problem.varianceFactor), .int(problem.channels)],
          global: [problem.channels], label: problem.label)
      ]
    }
  ]
}
