import Keel

extension Dataset {
  /// Images of noise in ten classes, stored as bytes: 28×28 like MNIST's, or another shape.
  static func noise(count: Int, shape: [Int] = [28, 28]) throws -> Dataset {
    let byteCount = count * shape.reduce(1, *)
    var generator = Philox(seed: 0)
    var pixels: [UInt8] = []
    pixels.reserveCapacity(byteCount + 3)
    while pixels.count < byteCount {
      let word = generator.nextWord()
      for shift in stride(from: 0, to: 32, by: 8) { pixels.append(UInt8(truncatingIfNeeded: word >> shift)) }
    }
    pixels.removeLast(pixels.count - byteCount)
    return try Dataset(
      name: "noise", features: HostTensor(Shape([count] + shape), pixels),
      labels: HostTensor([count], (0..<count).map { Int32($0 % 10) }), classCount: 10, scale: 1.0 / 255)
  }
}

/// Any number of images of 28×28 bytes, which are a few thousand of noise over and over.
struct RepeatedNoise: SampleSource {
  let name = "repeated noise"
  let featureType: TensorType
  let targetType: TensorType
  private let images: Dataset

  var classCount: Int { images.classCount }
  var scale: Double { images.scale }

  init(count: Int) throws {
    featureType = TensorType([count, 28, 28], .uint8)
    targetType = TensorType([count], .int32)
    images = try Dataset.noise(count: 4000)
  }

  func read(_ samples: ArraySlice<Int32>, features: inout MutableRawSpan, targets: inout MutableRawSpan) throws {
    try images.read(samples.map { $0 % 4000 }[...], features: &features, targets: &targets)
  }
}
