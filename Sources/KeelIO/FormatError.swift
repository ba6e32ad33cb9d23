/// A file and what was expected of it do not fit: `[idx] train-labels: label 11 at index 5, expected 0…9`.
public struct FormatError: Error, Equatable, CustomStringConvertible {
  /// The reader that speaks: `idx`, `gzip`, `pgm`, `csv`, `safetensors`, `file`.
  public let format: String
  /// The file as the user named it.
  public let file: String
  /// What was expected and what came.
  public let offence: String

  public init(_ format: String, _ file: String, _ offence: String) {
    self.format = format
    self.file = file
    self.offence = offence
  }

  public var description: String { "[\(format)] \(file): \(offence)" }
}
