/// A problem as tuning knows it: a choice holds for all problems of one family that look alike.
public struct ProblemKey: Hashable, Codable, Sendable {
  /// The name of the family.
  public var family: String
  /// Element type and sizes, each rounded up to a power of two: `f32 1024×32×32 TN`.
  public var bucket: String

  /// The key of these names.
  public init(family: String, bucket: String) {
    self.family = family
    self.bucket = bucket
  }
}

/// Variants that `keel tune` found faster on a device than the first that suits.
public struct TunedVariants: Hashable, Sendable {
  private var names: [ProblemKey: String] = [:]

  /// Nothing: variants are chosen by their order.
  public init() {}

  /// Whether nothing was found.
  public var isEmpty: Bool { names.isEmpty }

  /// The variant's name; nil where nothing was found.
  public subscript(key: ProblemKey) -> String? {
    get { names[key] }
    set { names[key] = newValue }
  }
}

extension KernelProblem {
  /// What a choice for this problem is filed under.
  public var key: ProblemKey {
    ProblemKey(family: Self.family, bucket: "\(dtype) \(Self.roundingUp(label))")
  }

  /// The text with each number that stands in it rounded up to a power of two, where an `Int` holds that.
  static func roundingUp(_ label: String) -> String {
    var (result, number) = ("", "")
    for character in label + " " {
      if character.isASCII, character.isNumber {
        number.append(character)
        continue
      }
      if let value = Int(number), value <= 1 << 62 {
        // 0 counts as 1.
        result += "\(1 << (Int.bitWidth - (max(value, 1) - 1).leadingZeroBitCount))"
      } else {
        result += number
      }
      number = ""
      result.append(character)
    }
    return String(result.dropLast())
  }
}
