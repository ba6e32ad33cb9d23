import KeelCore

/// Running statistics computed anew from a data set, for a network that is trained.
///
/// While a network trains its running statistics follow parameters that move, so at the end they are an average over
/// networks that are no more. Recalibration passes the data once through the network as it is now, in training mode
/// (each batch norm normalizes by its batch, nothing is learnt), and gathers what each batch norm saw.
public struct Recalibration: Sendable, Equatable {
  /// What the statistics of the batches are made into.
  public enum Mode: String, Sendable, Codable, CaseIterable {
    /// Mean and variance of all values that the layer saw, however they were cut into batches: the batches' counts,
    /// means and sums of squares are merged, in double precision. The variance is unbiased, n/(n − 1) with the n of all
    /// values, where the layer's is.
    ///
    /// For the first batch norm of a network, and every other that none precedes, these are the statistics of the data
    /// set whatever the batch size. What a later one sees depends on the batches, for it stands behind
    /// normalization by the batch, as it did in training and as in the 2015 paper's algorithm 2.
    ///
    /// Source of the merge: Chan, Golub, LeVeque 1979.
    case exact
    /// The mean over the batches of their means and variances, every batch with the same weight, as PyTorch's
    /// `torch.optim.swa_utils.update_bn` with `momentum = None`. The variance misses how the means of batches differ,
    /// and a short last batch counts as much as a full one. A batch's variance is unbiased where the layer's is.
    case averageOfBatches
  }

  /// The new statistics of one batch norm.
  public struct Layer: Sendable, Equatable {
    /// Property path, `layers.1`.
    public var path: String
    /// By channel, in double precision; the model has them in its own type.
    public var mean: [Double]
    /// By channel, biased or not as the layer's running variance is.
    public var variance: [Double]
    /// Values of each channel that were seen.
    public var count: Int
  }

  /// How they were gathered.
  public var mode: Mode
  /// Samples that were passed through the network.
  public var samples: Int
  /// Batches that these made.
  public var batches: Int
  /// In the order of the network. Frozen layers, and those without running statistics, are not among them.
  public var layers: [Layer]
}

/// Count, mean and sum of squared distances from it, by channel, of the values seen so far.
struct Moments {
  private(set) var count = 0.0
  private(set) var mean: [Double]
  private(set) var squares: [Double]

  init(channels: Int) {
    mean = [Double](repeating: 0, count: channels)
    squares = mean
  }

  /// Adds a batch of `count` values a channel, of which `variance` is the biased one.
  ///
  /// Source: Chan, Golub, LeVeque 1979, equation 2.1.
  mutating func merge(count added: Double, mean other: [Double], variance: [Double]) {
    let total = count + added
    for channel in mean.indices {
      let distance = other[channel] - mean[channel]
      mean[channel] += distance * (added / total)
      squares[channel] += variance[channel] * added + distance * distance * (count * added / total)
    }
    count = total
  }
}

/// Sums of the batches' statistics, every batch counted once.
struct BatchSums {
  private var batches = 0.0
  private(set) var mean: [Double]
  private(set) var variance: [Double]

  init(channels: Int) {
    mean = [Double](repeating: 0, count: channels)
    variance = mean
  }

  /// The averages so far move towards the batch by 1/k: the first replaces them.
  mutating func add(mean other: [Double], variance otherVariance: [Double]) {
    batches += 1
    for channel in mean.indices {
      mean[channel] += (other[channel] - mean[channel]) / batches
      variance[channel] += (otherVariance[channel] - variance[channel]) / batches
    }
  }
}
