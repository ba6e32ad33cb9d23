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

/// Images of noise, 28×28 bytes in ten classes, computed as they are read: any number of them needs no memory.
struct ComputedNoise: SampleSource {
  let featureType: TensorType
  let targetType: TensorType
  let name = "computed noise"
  let classCount = 10
  let scale = 1.0 / 255

  init(count: Int) {
    featureType = TensorType([count, 28, 28], .uint8)
    targetType = TensorType([count], .int32)
  }

  func read(_ samples: ArraySlice<Int32>, features: inout MutableRawSpan, targets: inout MutableRawSpan) throws {
    for (position, sample) in samples.enumerated() {
      for word in 0..<784 / 8 {
        // Source: splitmix64, Steele, Lea, Flood 2014.
        var z = UInt64(sample) << 7 &+ UInt64(word) &+ 1
        z &*= 0x9E37_79B9_7F4A_7C15
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        features.storeBytes(of: z ^ z >> 31, toByteOffset: position * 784 + word * 8, as: UInt64.self)
      }
      targets.storeBytes(of: sample % 10, toByteOffset: position * 4, as: Int32.self)
    }
  }
}
