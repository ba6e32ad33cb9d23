import KeelCore
import KeelIO

/// The UCI optical recognition of handwritten digits: 1797 images of 8×8 pixels from 0 to 16, part of the program.
///
/// These are the data set's own test images, by writers of whom none wrote for its training part. E. Alpaydin and
/// C. Kaynak, 1998, UCI Machine Learning Repository, doi 10.24432/C50P49, CC BY 4.0 (see NOTICE).
public enum Digits {
  /// How many images, in the file's order, are for training; the other 360 are for testing.
  ///
  /// The order is the file's, in which the images of one writer lie together: the test images are by other hands than
  /// most of the training images, which is harder, and more like use, than a shuffled split.
  public static let trainCount = 1437

  private static let count = 1797

  /// Unpacks the embedded images: features `u8[n, 8, 8]`, scale 1/16, 10 classes.
  public static func load() throws -> DatasetPair {
    let name = "digits.csv.gz"
    let table = try CSV.decode(try Gzip.decompress(PackageResources.digits_csv_gz, name: name), name: name)
    guard table.shape == [count, 65] else {
      throw DatasetError("digits", "expects a table [\(count), 65], got \(table.shape)")
    }
    let values = table.doubles
    let pixels = try (0..<count).flatMap { row in
      try values[(row * 65)..<(row * 65 + 64)].map { value in
        guard let pixel = UInt8(exactly: value), pixel <= 16 else {
          throw DatasetError("digits", "pixel \(value) in row \(row), expected 0…16")
        }
        return pixel
      }
    }
    let classes = try HostTensor(TensorType([count], .int32), values: (0..<count).map { values[$0 * 65 + 64] })
    let all = try Dataset(
      name: "digits", features: HostTensor([count, 8, 8], pixels), labels: classes, classCount: 10, scale: 1.0 / 16)
    return try DatasetPair(train: all.rows(0..<trainCount), test: all.rows(trainCount..<count))
  }
}
