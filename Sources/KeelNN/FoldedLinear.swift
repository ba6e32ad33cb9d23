import KeelCore

/// Batch norm in evaluation as y = s·x + t for each channel.
struct ChannelMap {
  let scale: [Double]
  let shift: [Double]
  /// β and μ_r, of which t = β − μ_r·s is made.
  let offset: [Double]
  let mean: [Double]
  /// Expected squares of y over the data that the statistics are of.
  let power: [Double]

  /// - Throws: ``Obstacle`` when the layer has no running statistics, or none that it could evaluate with.
  init(_ norm: BatchNorm) throws(Obstacle) {
    guard let mean = norm.runningMean?.value?.doubles, let variance = norm.runningVariance?.value?.doubles else {
      throw Obstacle("it has no running statistics: evaluation, too, normalizes by the batch")
    }
    let channels = norm.options.channels
    let gain = norm.scale?.value?.doubles ?? [Double](repeating: 1, count: channels)
    let offset = norm.shift?.value?.doubles ?? [Double](repeating: 0, count: channels)
    guard mean.allSatisfy(\.isFinite), variance.allSatisfy({ $0.isFinite && $0 + norm.options.epsilon > 0 }) else {
      throw Obstacle("its running statistics are not finite, or of negative variance")
    }
    self.mean = mean
    self.offset = offset
    let scale = zip(gain, variance).map { $0 / ($1 + norm.options.epsilon).squareRoot() }
    self.scale = scale
    shift = offset.indices.map { offset[$0] - mean[$0] * scale[$0] }
    power = offset.indices.map { scale[$0] * scale[$0] * variance[$0] + offset[$0] * offset[$0] }
  }
}

/// A linear layer whose values are being changed, in double precision.
struct FoldedLinear {
  private var options: Linear.Options
  private let dtype: DType
  /// [inputs, outputs], row after row.
  private var weight: [Double]
  private var bias: [Double]
  private let trains: (weight: Bool, bias: Bool)

  var inputs: Int { options.inputs }
  var outputs: Int { options.outputs }

  /// Nil for other layers and for one without values.
  init?(_ layer: any Layer) {
    guard let linear = layer as? Linear, let weight = linear.weight.value,
      linear.bias == nil || linear.bias?.value != nil
    else { return nil }
    options = linear.options
    dtype = weight.dtype
    self.weight = weight.doubles
    bias = linear.bias?.value?.doubles ?? [Double](repeating: 0, count: linear.options.outputs)
    trains = (linear.weight.isTrainable, linear.bias?.isTrainable ?? linear.weight.isTrainable)
  }

  /// Takes over what comes behind: y = s·(x·W + b) + t.
  mutating func append(_ map: ChannelMap, _ tolerance: Double) throws(Obstacle) {
    // x·W and b' cancel: each is as large as the scaled mean.
    let error = (0..<outputs).map { Self.square(map.scale[$0] * (map.mean[$0] - bias[$0])) }
    try check(error.reduce(0, +), map.power.reduce(0, +), tolerance)
    for row in 0..<inputs {
      for column in 0..<outputs { weight[row * outputs + column] *= map.scale[column] }
    }
    // (b − μ)·s + β, with the difference first.
    for column in 0..<outputs {
      bias[column] = (bias[column] - map.mean[column]) * map.scale[column] + map.offset[column]
    }
    try finish()
  }

  /// Takes over what comes before: y = (s·x + t)·W + b, with the channel of each feature.
  mutating func prepend(_ map: ChannelMap, _ channel: [Int], _ tolerance: Double) throws(Obstacle) {
    var (error, power) = (0.0, 0.0)
    for row in 0..<inputs {
      let scaledMean = map.scale[channel[row]] * map.mean[channel[row]]
      for column in 0..<outputs {
        let value = weight[row * outputs + column]
        error += Self.square(scaledMean * value)
        power += map.power[channel[row]] * Self.square(value)
        bias[column] += map.shift[channel[row]] * value
        weight[row * outputs + column] = map.scale[channel[row]] * value
      }
    }
    try check(error, power, tolerance)
    try finish()
  }

  /// Throws when rounding of numbers as large as what cancels is too much for what is left. Both are sums of squares.
  private func check(_ cancelling: Double, _ power: Double, _ tolerance: Double) throws(Obstacle) {
    let unit = dtype.epsilon / 2
    let error = unit * cancelling.squareRoot()
    guard error > tolerance * power.squareRoot() else { return }
    throw Obstacle(
      "folding would be inexact: its channels lie so far from 0 for their spread that \(dtype) leaves a relative "
        + "error of about \(Self.rounded(error / power.squareRoot())), more than \(tolerance)")
  }

  private mutating func finish() throws(Obstacle) {
    options.bias = true
    guard (weight + bias).allSatisfy({ abs($0) <= dtype.greatestFiniteMagnitude }) else {
      throw Obstacle("the folded weights are beyond the numbers of \(dtype)")
    }
  }

  /// A new layer with these values.
  func layer() throws -> Linear {
    let linear = Linear(options)
    linear.weight.value = try HostTensor(TensorType(linear.weight.shape, dtype), values: weight)
    linear.weight.isTrainable = trains.weight
    if let bias = linear.bias {
      bias.value = try HostTensor(TensorType(bias.shape, dtype), values: self.bias)
      bias.isTrainable = trains.bias
    }
    return linear
  }

  private static func square(_ value: Double) -> Double { value * value }

  /// Two digits.
  private static func rounded(_ value: Double) -> Double {
    guard value > 0, value.isFinite else { return value }
    var (scale, scaled) = (1.0, value)
    while scaled < 10 { (scale, scaled) = (scale * 10, scaled * 10) }
    return scaled.rounded() / scale
  }
}
