import com.alibaba.csp.sentinel.Entry;
import com.alibaba.csp.sentinel.EntryType;
import com.alibaba.csp.sentinel.SphU;
import com.alibaba.csp.sentinel.slots.block.BlockException;

/** A process with one busy resource, until its standard input ends. */
public class Agent {
    public static void main(String[] args) throws Exception {
        while (System.in.available() == 0) {
            for (int i = 0; i < 10; i++) {
                try (Entry e = SphU.entry("busy", EntryType.IN)) {
                } catch (BlockException e) {
                }
            }
            Thread.sleep(100);
        }
    }
}
