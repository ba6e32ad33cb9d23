import KeelCore
import KeelGraph

/// Batch normalization: each channel is brought to mean 0 and variance 1, then to a learned scale and shift.
///
///     training    y = γ·(x − μ)/√(σ² + ε) + β      μ, σ² of the batch; the running statistics move towards them
///     evaluation  y = (x − μ_r)·(γ/√(σ²_r + ε)) + β
///
/// Parameters: `scale` γ [C], 1 at the start, and `shift` β [C], 0. Running statistics: `runningMean` μ_r [C], 0, and
/// `runningVariance` σ²_r [C], 1. Training needs more than one value per channel; a batch without values is given back
/// as it is.
///
/// Two switches decide what a call does. The mode is that of the whole graph: `fit` trains, `evaluate` and `predict`
/// use. ``freeze()`` is the layer's own: γ, β and the running statistics stay as they are and normalize in training,
/// too.
///
/// Source: Ioffe & Szegedy 2015, algorithms 1 and 2.
public struct BatchNorm: Layer {
  /// How far a batch moves the running statistics. Weights are in 0…1.
  public enum Momentum: Hashable, Sendable {
    /// The weight of the *new* value, as PyTorch counts (0.1 there).
    case new(Double)
    /// The weight of the *old* value, as Keras, Flax and ONNX count (0.99 or 0.9 there).
    case old(Double)
    /// 1/n for the nth batch: the running statistics are the averages over all batches since the start or the last
    /// reset, all with the same weight, and the first batch replaces the initial values. PyTorch's `momentum=None`.
    case cumulative

    /// The weight of the new value; nil where it is another for each batch. For old weights of one half and more, 1 − w
    /// has no rounding error.
    public var newWeight: Double? {
      switch self {
      case .new(let weight): weight
      case .old(let weight): 1 - weight
      case .cumulative: nil
      }
    }
  }

  /// Which variance of the batch goes into the running one. Normalization always uses the biased variance.
  public enum RunningVariance: String, Hashable, Sendable, Codable, CaseIterable {
    /// Σ(x − μ)²/(m − 1), as PyTorch.
    case unbiased
    /// Σ(x − μ)²/m, as Keras, Flax and ONNX.
    case biased
  }

  /// ε, momentum and running variance as another system has them by default.
  public enum Convention: String, Hashable, Sendable, CaseIterable {
    /// 1e-5, `.new(0.1)`, unbiased: Keel's own defaults.
    case pytorch
    /// 1e-3, `.old(0.99)`, biased.
    case keras
    /// 1e-5, `.old(0.9)`, biased.
    case onnx
  }

  /// γ [C]; nil when left out.
  public let scale: Parameter?
  /// β [C]; nil when left out.
  public let shift: Parameter?
  /// μ_r [C]; nil without running statistics.
  public let runningMean: RunningStatistic?
  /// σ²_r [C]; nil without running statistics.
  public let runningVariance: RunningStatistic?
  /// How many batches have moved the running statistics of each channel [C], by whatever momentum; nil without running
  /// statistics. A batch that is not finite in a channel does not count there, an empty one nowhere. In float32 it
  /// counts to 2²⁴.
  public let batchesTracked: RunningStatistic?
  /// The settings that the layer was made with.
  public let options: Options

  /// - Parameters:
  ///   - channels: extent of `axis`; more than 0.
  ///   - axis: where the channels are; −1 is the last axis.
  ///   - epsilon: what is added to the variance; more than 0, and not below what the element type can hold.
  ///   - momentum: how far a batch moves the running statistics.
  ///   - runningVariance: which variance goes into the running one.
  ///   - scale: whether there is a γ.
  ///   - shift: whether there is a β.
  ///   - tracksRunningStatistics: without them evaluation, too, uses the statistics of the batch.
  public init(
    _ channels: Int, axis: Int = -1, epsilon: Double = 1e-5, momentum: Momentum = .new(0.1),
    runningVariance: RunningVariance = .unbiased, scale: Bool = true, shift: Bool = true,
    tracksRunningStatistics: Bool = true
  ) {
    self.init(
      Options(
        channels: channels, axis: axis, epsilon: epsilon, momentum: momentum, runningVariance: runningVariance,
        scale: scale, shift: shift, tracksRunningStatistics: tracksRunningStatistics))
  }

  /// Batch norm with the defaults of another system. The axis is Keel's: name it where the channels are not last.
  public init(
    _ channels: Int, axis: Int = -1, convention: Convention, scale: Bool = true, shift: Bool = true
  ) {
    let (epsilon, momentum, variance): (Double, Momentum, RunningVariance) =
      switch convention {
      case .pytorch: (1e-5, .new(0.1), .unbiased)
      case .keras: (1e-3, .old(0.99), .biased)
      case .onnx: (1e-5, .old(0.9), .biased)
      }
    self.init(
      channels, axis: axis, epsilon: epsilon, momentum: momentum, runningVariance: variance, scale: scale, shift: shift)
  }

  init(_ options: Options) {
    let shape: Shape = [options.channels]
    let tracks = options.tracksRunningStatistics
    self.options = options
    scale = options.scale ? Parameter(shape, initializer: .ones) : nil
    shift = options.shift ? Parameter(shape) : nil
    runningMean = tracks ? RunningStatistic(shape, initialValue: 0) : nil
    runningVariance = tracks ? RunningStatistic(shape, initialValue: 1) : nil
    batchesTracked = tracks ? RunningStatistic(shape, initialValue: 0, countsAsParameter: false) : nil
  }

  /// The normalized operand, of its own type and shape; `x` has the channels on the axis of the settings. What is stored
  /// in 16 bits is normalized in float32, and its statistics are kept in float32.
  public func callAsFunction(_ x: Tensor) -> Tensor {
    x.inLayer(owning: [scale?.path, shift?.path, runningMean?.path]) {
      if let problem = options.problem ?? options.problem(in: x.builder.dtype) {
        return x.rejected("batchNorm", problem)
      }
      guard let axis = x.shape.resolve(axis: options.axis) else {
        return x.rejected("batchNorm", "expects \(options.channels) channels on axis \(options.axis), got \(x.shape)")
      }
      guard x.shape[axis] == options.channels else {
        return x.rejected("batchNorm", "expects \(options.channels) channels on axis \(axis), got \(x.shape)")
      }
      // Of no values there are no statistics: nothing to normalize, nothing to track.
      if x.shape.count == 0 { return x }
      guard x.builder.mode == .evaluation || isFrozen, let runningMean, let runningVariance else {
        return normalizedByBatch(x, axis)
      }
      return normalized(x, axis, mean: runningMean, variance: runningVariance)
    }
  }

  /// Normalizes with the batch's own statistics and, in training, moves the running ones towards them.
  private func normalizedByBatch(_ x: Tensor, _ axis: Int) -> Tensor {
    let (builder, shape) = (x.builder, Shape([options.channels]))
    let results = builder.append(
      .batchNormTraining(BatchNormTraining(axis: axis, epsilon: options.epsilon)),
      [
        x, scale?.tensor(in: builder) ?? builder.constant(1, shape, x.dtype.arithmetic),
        shift?.tensor(in: builder) ?? builder.constant(0, shape, x.dtype.arithmetic),
      ])
    guard builder.mode == .training, builder.error == nil, let runningMean, let runningVariance, let batchesTracked
    else { return results[0] }
    let m = Double(x.shape.count / options.channels)
    let moved = builder.append(
      .batchNormRunningUpdate(
        BatchNormRunningUpdate(
          weight: options.momentum.newWeight.map { .fixed($0) } ?? .cumulative,
          varianceFactor: options.runningVariance == .unbiased ? m / (m - 1) : 1)),
      [runningMean, runningVariance, batchesTracked].map { $0.tensor(in: builder) } + results[1...])
    runningMean.update(with: moved[0])
    runningVariance.update(with: moved[1])
    batchesTracked.update(with: moved[2])
    return results[0]
  }

  /// Normalizes with running statistics. The factor is computed once a channel; the mean is subtracted first, because
  /// x·factor + (β − μ_r·factor) would lose digits where |μ_r| ≫ σ_r.
  private func normalized(_ x: Tensor, _ axis: Int, mean: RunningStatistic, variance: RunningStatistic) -> Tensor {
    let builder = x.builder
    let deviation = variance.tensor(in: builder) + options.epsilon
    let factor =
      if let scale { scale.tensor(in: builder) / deviation.elementwise(.squareRoot) } else {
        deviation.elementwise(.reciprocalSquareRoot)
      }
    let values = x.cast(to: x.dtype.arithmetic)
    var y = (values - mean.tensor(in: builder).channels(axis, of: x.shape)) * factor.channels(axis, of: x.shape)
    if let shift { y = y + shift.tensor(in: builder).channels(axis, of: x.shape) }
    return y.cast(to: x.dtype)
  }

  public var configuration: LayerConfiguration? { .batchNorm(options) }
}
