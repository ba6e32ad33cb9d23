import Keel

/// x + gain · f(x), where f is two normalized linear layers with a ReLU between them.
///
/// A layer is a struct with a call. What it stores is found by name: the parameters of this one are
/// `first.weight`, `firstNorm.scale`, …, `gain`, behind the path of the block in its model.
struct ResidualBlock: Layer {
  let first: Linear
  let firstNorm: BatchNorm
  let second: Linear
  let secondNorm: BatchNorm
  /// How much each channel takes of f. It starts at 0: a new block changes nothing, so a deep network learns as easily
  /// as a shallow one. Source: Bachlechner et al. 2020, "ReZero is All You Need", there with one number for all channels.
  let gain: Parameter

  init(_ channels: Int) {
    first = Linear(channels, channels, bias: false, weight: .heNormal)
    firstNorm = BatchNorm(channels)
    second = Linear(channels, channels, bias: false, weight: .heNormal)
    secondNorm = BatchNorm(channels)
    gain = Parameter([channels])
  }

  func callAsFunction(_ x: Tensor) -> Tensor {
    let hidden = firstNorm(first(x)).relu()
    return x + secondNorm(second(hidden)) * gain
  }
}
